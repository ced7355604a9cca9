"""The BPF program that reports writes to sysctls, and bpf(2) to run it; needs nothing else of ipvsd."""
