#!/bin/sh
# Kernel packages run this as postinst.d/ipvsd VERSION IMAGE. It prints one line on
# whether the new kernel can satisfy the configuration. It never fails the
# installation. Standard output can belong to debconf.
exec </dev/null >&2
command -v ipvsd >/dev/null && ipvsd preflight --brief --kernel "$1"
exit 0
