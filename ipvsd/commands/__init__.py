"""The commands, one file each, and how they print; a command returns its exit code (see ipvsd(8))."""
