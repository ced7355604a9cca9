"""The daemon: its main loop, and the wiring of all parts."""
