"""Detection of conflicting programs: who else sets what ipvsd sets, one file for each program."""
