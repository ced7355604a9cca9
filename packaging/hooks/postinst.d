#!/bin/sh
# Run by the packages of kernels as postinst.d/ipvsd VERSION IMAGE: one line on
# whether the new kernel can satisfy the configuration. Never fails them.
# Standard output may be debconf's.
exec </dev/null >&2
command -v ipvsd >/dev/null && ipvsd preflight --brief --kernel "$1"
exit 0
