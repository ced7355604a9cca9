"""The next boot: installed kernels, the prediction of a boot, and drop-in files for systemd."""
