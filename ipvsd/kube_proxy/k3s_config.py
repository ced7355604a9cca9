"""The configuration file of k3s and RKE2, and the options of kube-proxy in it.

A key replaces the value of an earlier one, in the same file and in config.yaml.d. A key that ends with `+` appends to
it (readConfigFile in pkg/configfilearg/parser.go of k3s).
"""

from __future__ import annotations

from collections.abc import Sequence

ARGUMENTS = "kube-proxy-arg"
DISABLE = "disable-kube-proxy"


def name_of(key: str) -> str:
    """Return the option that a key sets."""
    return key.removesuffix("+")


def first_applied(keys: Sequence[str]) -> int:
    """Return the number of the first key that applies, among all keys of one option in their order."""
    return max((number for number, key in enumerate(keys) if not key.endswith("+")), default=0)
