"""Kernel modules by name: what modprobe would do with them, and why a kernel lacks one; pure."""
