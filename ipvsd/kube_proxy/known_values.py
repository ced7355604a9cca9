"""Modes and defaults of kube-proxy (cmd/kube-proxy/app and pkg/proxy/apis/config/v1alpha1 of kubernetes/kubernetes)."""

from __future__ import annotations

METRICS_ADDRESS = "127.0.0.1:10249"
HEALTHZ_ADDRESS = "0.0.0.0:10256"
DEFAULT_SCHEDULER = "rr"
IPTABLES, IPVS, NFTABLES = "iptables", "ipvs", "nftables"
DEFAULT_MODE = IPTABLES
MODES = (IPTABLES, IPVS, NFTABLES, "userspace")

INTERFACE = "kube-ipvs0"  # pkg/proxy/ipvs; has the addresses of all services
