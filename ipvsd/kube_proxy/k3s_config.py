"""The configuration file of k3s and RKE2, and the options of kube-proxy in it.

A key replaces the value of an earlier one, in the same file and in config.yaml.d. A key that ends with `+` appends to
it (readConfigFile in pkg/configfilearg/parser.go of k3s).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ipvsd.config import spelling

ARGUMENTS = "kube-proxy-arg"
DISABLE = "disable-kube-proxy"
# Keys that people set in config.yaml, and that no configuration of kube-proxy has.
_KEYS = frozenset(
    (
        "write-kubeconfig write-kubeconfig-mode token token-file agent-token server cluster-init tls-san data-dir "
        "node-name node-ip node-external-ip node-label node-taint bind-address advertise-address cluster-cidr "
        "service-cidr cluster-dns cluster-domain flannel-backend flannel-iface disable cni disable-network-policy "
        "disable-cloud-controller kubelet-arg kube-apiserver-arg kube-controller-manager-arg kube-scheduler-arg "
        "kube-cloud-controller-manager-arg etcd-arg selinux docker private-registry secrets-encryption profile "
        "system-default-registry egress-selector-mode embedded-registry " + DISABLE
    ).split()
)


def name_of(key: str) -> str:
    """Return the option that a key sets."""
    return key.removesuffix("+")


def is_true(text: str) -> bool:
    """Return whether a value of a switch enables it: a boolean value of YAML 1.1 or of Go's strconv.ParseBool."""
    return text.lower() in ("true", "t", "1", "yes", "y", "on")


def first_applied(keys: Sequence[str]) -> int:
    """Return the number of the first key that applies, among all keys of one option in their order."""
    return max((number for number, key in enumerate(keys) if not key.endswith("+")), default=0)


def is_misspelt(key: str) -> bool:
    """Return whether a key probably means the arguments of kube-proxy. k3s ignores an unknown key with a warning."""
    plain = re.sub("[^a-z]", "", key.lower())
    if name_of(key) == ARGUMENTS or len(key) > 40:
        return False
    return plain in ("kubeproxyarg", "kubeproxyargs", "kubeproxyarguments", "kubeproxyextraargs") or (
        plain.startswith("kube") and spelling.nearest(key, [ARGUMENTS], 0.85) is not None
    )


def is_config(keys: Collection[str]) -> bool:
    """Return whether a map with these keys is a configuration of k3s or RKE2."""
    names = {name_of(key) for key in keys}
    return "kind" not in names and "apiVersion" not in names and not names.isdisjoint(_KEYS)
