"""Detection of conflicting programs, one file for each program."""
