"""Kernel modules: names, the effect of modprobe.d(5), and the causes of missing modules; pure."""
