"""The commands, one file each, and their output; a command returns its exit code (see ipvsd(8))."""
