"""The sections of troubleshooting.md that findings name, beside those of `log_errors`."""

from __future__ import annotations

MODULE_NOT_FOUND = "modprobe: FATAL: Module ip_vs not found in directory /lib/modules"
MODULE_BLOCKED = "Failed to insert module 'ip_vs': Operation not permitted"
VERSION_MAGIC = "ip_vs: version magic '...' should be '...'"
UNSIGNED = "Loading of unsigned module is rejected"
MODULES_LOAD = "systemd-modules-load: Failed to find module 'ip_vs'"
SYSCTL_MISSING = "systemd-sysctl: Couldn't write '1' to 'net/ipv4/vs/conntrack', ignoring: No such file or directory"
SYSCTL_CHANGED = "net.ipv4.ip_forward is 0 again"
TABLE_FULL = "nf_conntrack: table full, dropping packet"
EMPTY_TABLE = "ipvsadm -Ln is empty"
REMAINS = "kube-ipvs0 or KUBE- chains remain from another proxy mode"
INTERFACE = "service addresses disappear from kube-ipvs0"
DENIED = 'avc: denied, or apparmor="DENIED"'
CONTAINER = "ipvsd in a container, or in another network namespace"
UNHEALTHY = "/healthz of kube-proxy returns 503"
NO_ANSWER = "curl: (7) Failed to connect to 127.0.0.1 port 10249"
REMOVED = "The ipvs proxier is now deprecated"
FIREWALLD = "firewalld and IPVS"
