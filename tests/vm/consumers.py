"""Stand-ins for the services that use IPVS, or start what does; each notes what it finds in the moment it starts."""

from __future__ import annotations

# By their full names: those of distributions, of upstream packages, and of the snaps (snap.SNAP.APP.service).
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
