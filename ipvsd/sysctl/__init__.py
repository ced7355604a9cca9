"""Names, patterns and values of sysctls, as sysctl.d(5) and the kernel parse them; pure."""
