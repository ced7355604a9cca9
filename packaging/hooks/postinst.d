#!/bin/sh
# Run by the packages of kernels as postinst.d/ipvsd VERSION IMAGE: one line on
# whether the new kernel can satisfy the configuration. Never fails them.
command -v ipvsd >/dev/null && ipvsd preflight --brief --kernel "$1" 2>/dev/null
exit 0
