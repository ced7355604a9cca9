"""A real kube-proxy on a bench machine, built from Debian's source: 1.20.2 of bookworm, the last version in Debian.

Its go.mod is not used. Debian's package contains all dependencies below vendor/, as a GOPATH.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from tests.vm import cache, cluster, packages
from tests.vm.image import chosen
from tests.vm.machine import Machine
from tests.vm.node import Node

SUITE = "bookworm"
COMPILER = "/usr/lib/go-1.19/bin/go"
PACKAGE = "k8s.io/kubernetes"
RECIPE = (SUITE, COMPILER, PACKAGE, Path(packages.__file__))
GUEST = Path(__file__).parent / "guest"
FILES = ("apiserver.py", "pod.py", "network.sh", "kubelet.sh", "newer.sh", "nftables.nft")
API = 8001
POD_NETWORKS = {"IPv4": "10.244.0.0/16", "IPv6": "fd00:244::/64"}

# JSON is valid YAML. The scheduler is set, because kube-proxy warns about a default.
CONFIG = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "hostnameOverride": cluster.NODE,
    "ipvs": {"scheduler": "rr"},
    "clientConnection": {
        "kubeconfig": "/run/kubeconfig",
        "contentType": "application/json",
        "acceptContentTypes": "application/json",
    },
}
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "bench", "cluster": {"server": f"http://127.0.0.1:{API}"}}],
    "users": [{"name": "bench", "user": {}}],
    "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    "current-context": "bench",
}
# Not kube-proxy.service: ipvsd's units are ordered before that, so systemd keeps it loaded, and a second transient
# unit cannot use the name.
UNIT = "bench-kube-proxy"

# Warnings of kube-proxy 1.20 on every node: the names of its own sets for IPv6 are longer than the 31 characters of
# ipset.
NOISE = re.compile(r"ipset name truncated; \[KUBE-6-")


def disk() -> Path:
    """Return a disk with kube-proxy. Build it (two minutes) unless it is in the cache.

    It is a disk, because copying 50 MB through the agent's channel takes longer than a boot.
    """
    return cache.kept("kube-proxy", RECIPE, _build) / "disk"


def _build(target: Path, work: Path) -> None:
    print(f"building kube-proxy in {cache.directory()}, about two minutes", file=sys.stderr)
    tree = work / "go/src" / PACKAGE
    tree.parent.mkdir(parents=True)
    packages.source("kubernetes", SUITE, tree, work)
    # The machine's settings for Go (a proxy, a cache, flags) do not matter. Nothing is downloaded.
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(work), "GOPATH": str(work / "go"), "GOCACHE": str(work / "cache"),
        "GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0",
    }  # fmt: skip
    command = [
        COMPILER, "build", "-trimpath", "-ldflags=-s -w", "-o", str(work / "root/kube-proxy"),
        f"{PACKAGE}/cmd/kube-proxy",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cannot build kube-proxy: {done.stderr[-2000:]}")
    command = [
        "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(work / "root"), str(target / "disk"), "96M",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def booted() -> Iterator[Node]:
    """Boot a node with ipvsd, which has published its status, and with this disk."""
    with Machine(chosen(), disk=disk()) as machine:
        machine.booted()
        node = Node(machine)
        node.install()
        node.until(node.status, "status.json")
        yield node


class KubeProxy:
    """kube-proxy with an API, two pods, a client and a stranger, on a node that can be sealed later."""

    def __init__(self, node: Node) -> None:
        """Create the network and start the pods, like a network plugin before kube-proxy."""
        self._node, self._seen = node, 0
        self._objects: Optional[tuple[str, tuple[str, ...]]] = None  # of this mode and these families
        self._properties: Sequence[str] = ()
        for name in FILES:
            node.machine.put((GUEST / name).read_bytes(), f"/root/{name}")
        node.machine.put(json.dumps(KUBECONFIG).encode(), "/run/kubeconfig")
        node.run("mkdir -p /opt/kube-proxy && mount -t ext4 -o ro /dev/vdb /opt/kube-proxy && sh /root/network.sh")

    def start(
        self, mode: str, families: Sequence[str], settings: Mapping[str, object] = {}, cleanup: bool = True,
        properties: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Start kube-proxy in a mode, for one or both address families, with these further settings.

        Remove its former objects for another mode or other families, unless `cleanup` is False: with them, traffic
        passes before kube-proxy has written anything. `properties` are those of its unit (systemd.exec(5)), also after
        `restart`.
        """
        self._properties = properties
        objects = (mode, tuple(families))
        if self._objects not in (None, objects) and cleanup:
            self._node.run("/opt/kube-proxy/kube-proxy --cleanup", check=False)
        self._objects = objects
        config = {
            **CONFIG,
            "mode": mode,
            "bindAddress": "0.0.0.0" if families[0] == "IPv4" else "::",
            "clusterCIDR": ",".join(POD_NETWORKS[family] for family in families),
            "featureGates": {"IPv6DualStack": len(families) > 1},
            **settings,
        }
        self.publish(families)
        self.configure(config)
        self._node.run(
            "systemctl is-active -q api || systemd-run -q --unit api "
            f"python3 /root/apiserver.py /run/cluster.json {API}"
        )
        self._run()

    def configure(self, config: Mapping[str, object]) -> None:
        """Replace the configuration file, and do not restart kube-proxy."""
        self._node.machine.put(json.dumps(config).encode(), "/run/kube-proxy.yaml")

    def publish(self, families: Sequence[str], gone: Sequence[str] = ()) -> None:
        """Publish the cluster through the API, without these pods."""
        self._node.machine.put(json.dumps(cluster.objects(families, gone)).encode(), "/run/cluster.json")

    def restart(self) -> None:
        """Restart kube-proxy, and keep its objects."""
        self.stop()
        self._run()

    def stop(self) -> None:
        """Stop kube-proxy, and keep its objects."""
        self._node.run(f"systemctl stop {UNIT}", check=False)

    def log(self) -> Sequence[str]:
        """Return the log since the last start."""
        return self._logged()[self._seen :]

    def _logged(self) -> Sequence[str]:
        return self._node.run(f"journalctl --sync; journalctl -q -b -u {UNIT} -o cat").out.splitlines()

    def _run(self) -> None:
        self._seen = len(self._logged())
        properties = " ".join(f"-p {item}" for item in self._properties)
        self._node.run(
            f"systemctl reset-failed {UNIT} 2>/dev/null; "
            f"systemd-run -q --unit {UNIT} {properties} /opt/kube-proxy/kube-proxy --config /run/kube-proxy.yaml --v 2"
        )

    def problems(self) -> Sequence[str]:
        """Return the errors and warnings in the log, except for known ones."""
        return [line for line in self.log() if re.match(r"[EWF]\d{4} ", line) and not NOISE.search(line)]

    def changed(self) -> frozenset[str]:
        """Return the sysctls that kube-proxy found non-compliant and changed."""
        found = re.findall(r'Changed sysctl "([^"]+)"', "\n".join(self.log()))
        return frozenset(key.replace("/", ".") for key in found)

    def visit(self, *targets: str) -> Sequence[str]:
        """Return the replies to WHO:PROTOCOL/ADDRESS/PORT[/OWN PORT]; see guest/pod.py."""
        found = json.loads(self._node.run(["python3", "/root/pod.py", "visit", *targets]).out)
        return [str(answer) for answer in found]


def traffic(family: str) -> Sequence[tuple[str, str]]:
    """Return targets for KubeProxy.visit, and the expected replies as regular expressions."""
    node, pod = cluster.NODE_ADDRESS[family], r"pod[12] \S+"

    def service(name: str, protocol: str = "tcp", port: int = 80) -> str:
        return f"{protocol}/{cluster.address(name, family)}/{port}"

    everywhere = [
        (service("web"), pod), (f"tcp/{node}/{cluster.NODE_PORT}", pod), (service("dns", "udp", 53), pod),
        (f"udp/{node}/{cluster.DNS_PORT}", pod), (service("empty"), "refused"),
    ]  # fmt: skip
    balancer = f"tcp/{cluster.balancer('lb', family)}/80"
    by_visitor = {
        "client": [
            *everywhere,
            (balancer, pod),
            (f"tcp/{cluster.balancer('outer', family)}/80", pod),
            # Its address is visible, because the traffic stays on the node.
            (f"tcp/{node}/{cluster.LOCAL_PORT}", rf"pod[12] {re.escape(cluster.CLIENT[family])}"),
        ],
        "stranger": [(service("web"), pod), (balancer, "silence")],
        "pod1": everywhere,
        "node": everywhere,
    }
    return [(f"{who}:{target}", answer) for who, asked in by_visitor.items() for target, answer in asked]


if __name__ == "__main__":
    print(disk())
