"""The daemon: its one loop, and the wiring of all parts."""
