"""The BPF program that reports writes to sysctls, and the bpf(2) system call; imports nothing else of ipvsd."""
