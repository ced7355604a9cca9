"""The machine: read and write sysctls, load modules, read module trees, ask IPVS, identify processes."""
