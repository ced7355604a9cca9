"""The machine: read and write sysctls, load modules, read module trees, query IPVS, identify processes."""
