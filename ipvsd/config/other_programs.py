"""Identify configurations of other programs that people paste into ipvsd's, and translate them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Optional

from ipvsd.config import profiles
from ipvsd.config.yaml_tree import Mapping as Map
from ipvsd.config.yaml_tree import Node, Scalar

_KINDS: Mapping[str, str] = {
    "KubeProxyConfiguration": "kube-proxy's configuration",
    "KubeletConfiguration": "kubelet's configuration",
    "ClusterConfiguration": "kubeadm's configuration",
    "InitConfiguration": "kubeadm's configuration",
    "JoinConfiguration": "kubeadm's configuration",
    "ConfigMap": "a Kubernetes ConfigMap",
    "Config": "a kubeconfig",
}

# Keys and options of kube-proxy and kubeadm, in lower case without punctuation, each with ipvsd's equivalent.
_KEYS: Mapping[str, str] = {
    "mode": "for kube-proxy's mode, write 'profiles: [kube-proxy-ipvs]' or 'profiles: [kube-proxy-nftables]'",
    "proxymode": "for kube-proxy's mode, write 'profiles: [kube-proxy-ipvs]' or 'profiles: [kube-proxy-nftables]'",
    "ipvs": "for kube-proxy's ipvs.scheduler and ipvs.strictARP, use the top-level keys 'scheduler' and 'strictARP'",
    "ipvsscheduler": "use 'scheduler'",
    "ipvsstrictarp": "use 'strictARP'",
    "iptables": "ipvsd does not manage rules: configure them in kube-proxy",
    "nftables": "for kube-proxy's mode, write 'profiles: [kube-proxy-nftables]'",
    "conntrack": "for kube-proxy's conntrack.min, write 'sysctls: {net.netfilter.nf_conntrack_max: {atLeast: ...}}'",
    "kubernetesversion": "use 'kubeProxyVersion'",
    "metricsbindaddress": "write 'web: {listen: [ADDRESS:PORT]}'",
    "data": "ipvsd does not read a Kubernetes ConfigMap: write the keys of ipvsd.yaml(5)",
    "metadata": "ipvsd does not read a Kubernetes object: write the keys of ipvsd.yaml(5)",
    "healthzbindaddress": "write 'web: {listen: [ADDRESS:PORT]}'",
}
# Keys that identify a configuration of kube-proxy without its kind.
_KUBE_PROXY = frozenset(
    "bindAddress bindAddressHardFail clientConnection clusterCIDR configSyncPeriod conntrack detectLocalMode "
    "enableProfiling featureGates healthzBindAddress hostnameOverride iptables ipvs logging metricsBindAddress mode "
    "nftables nodePortAddresses oomScoreAdj portRange showHiddenMetricsForVersion udpIdleTimeout winkernel".split()
)
_CONNTRACK = "sysctls: {{net.netfilter.nf_conntrack_max: {{atLeast: {}}}}}"


def translate_key(name: str) -> Optional[str]:
    return _KEYS.get(re.sub("[^a-z0-9]", "", name.lower()))


def identify_document(root: Node) -> Optional[str]:
    """Return the description of another program's document with ipvsd's equivalent, or None."""
    scalars = dict(_scalars(root))
    top_level = {key.text for key, _ in root.items} if isinstance(root, Map) else set()
    if len(top_level & _KUBE_PROXY) > 1:
        scalars.setdefault("kind", "KubeProxyConfiguration")
    if "kind" not in scalars and "apiVersion" not in scalars:
        return None
    name, version = scalars.get("kind", ""), scalars.get("apiVersion", "")
    description = _KINDS.get(name, f"a Kubernetes object ({' '.join(filter(None, (version, name)))})")
    message = f"the file is {description}, which ipvsd does not read"
    translation = list(_translate(scalars))
    if name == "KubeProxyConfiguration":
        return f"{message} (the equivalent is: {'; '.join(translation)})"
    hint = "use the keys of ipvsd.yaml(5); from kube-proxy, ipvsd needs only ipvs.scheduler and ipvs.strictARP"
    return f"{message} ({hint})"


def identify_text(data: bytes) -> Optional[str]:
    """Return the same for a text that is not a single document."""
    kinds = re.findall(r"^[ \t]*\"?kind\"?:[ \t]*\"?([A-Za-z]+)", data.decode("utf-8", "replace"), re.MULTILINE)
    known: str = "KubeProxyConfiguration" if "KubeProxyConfiguration" in kinds else next(iter(kinds), "")
    if known not in _KINDS:
        return None
    message = identify_document(Map(((Scalar("str", "kind", 0), Scalar("str", known, 0)),), 0))
    return message and message.replace("the file is", "the file contains")


def _scalars(node: Node, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the scalars of a map and of its direct submaps, by their paths."""
    if not isinstance(node, Map):
        return
    for name, item in node.items:
        path = f"{above}{name.text}"
        if isinstance(item, Scalar):
            yield path, item.text if item.kind != "null" else ""
        elif not above:
            yield from _scalars(item, f"{path}.")


def _translate(scalars: Mapping[str, str]) -> Iterator[str]:
    mode = scalars.get("mode", "")
    by_mode = f"profiles: [{profiles.BY_MODE.get(mode, '')}]"
    yield by_mode if mode else "profiles: [kube-proxy-ipvs] if the kube-proxy mode is ipvs"
    if scalars.get("ipvs.scheduler"):
        yield f"scheduler: {scalars['ipvs.scheduler']}"
    if scalars.get("ipvs.strictARP"):
        yield f"strictARP: {scalars['ipvs.strictARP']}"
    if re.match("[0-9]{1,10}\\Z", scalars.get("conntrack.min", "")):
        yield _CONNTRACK.format(scalars["conntrack.min"])
