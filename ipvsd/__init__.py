"""Keep a node ready for IPVS: its kernel modules loaded, its sysctls compliant."""

__version__ = "0.1.0"
