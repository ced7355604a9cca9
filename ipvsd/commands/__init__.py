"""The commands: one file each. A command returns its exit code (see ipvsd(8))."""
