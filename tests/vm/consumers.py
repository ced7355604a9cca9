"""Stand-ins for services that use IPVS or start such programs. Each records the state at its start."""

from __future__ import annotations

# Full names: those of distributions, of upstream packages, and of snaps (snap.SNAP.APP.service).
CONSUMERS = (
    "kubelet", "kube-proxy", "kube-router", "containerd", "crio", "docker", "cri-docker",
    "k3s", "k3s-agent", "rke2-server", "rke2-agent", "k0scontroller", "k0sworker",
    "keepalived", "ldirectord", "ipvsadm",
    "snap.microk8s.daemon-kubelite", "snap.microk8s.daemon-kubelet", "snap.microk8s.daemon-proxy",
    "snap.microk8s.daemon-containerd",
    "snap.k8s.k8sd", "snap.k8s.containerd", "snap.k8s.kubelet", "snap.k8s.kube-proxy",
    "snap.kubelet.daemon", "snap.kube-proxy.daemon", "snap.docker.dockerd",
)  # fmt: skip

NOTES = "/run/consumers"
STAND_IN = f"""[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mkdir -p {NOTES}; grep -cE "^(ip_vs|ip_vs_rr) .* Live" /proc/modules > "{NOTES}/%N"; true'

[Install]
WantedBy=multi-user.target
"""
