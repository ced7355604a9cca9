"""The next boot: the installed kernels, what a boot makes of a root, and drop-in files for systemd."""
