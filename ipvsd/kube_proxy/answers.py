"""The answers and the configuration of a running kube-proxy, as the few settings that matter here.

Any input is accepted. A value that cannot be parsed counts as not set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ipvsd.config import yaml_tree
from ipvsd.kube_proxy import known_values
from ipvsd.model import printable

_MAX_WORD = 60  # characters of a mode or scheduler
_GROUP = "kubeproxy.config.k8s.io"
# The fields of Settings by their keys in a KubeProxyConfiguration, and in its section ipvs.
_KEYS = {"mode": "mode", "metrics_address": "metricsBindAddress", "healthz_address": "healthzBindAddress"}
_IPVS_KEYS = {"scheduler": "scheduler", "strict_arp": "strictARP"}


class Settings(NamedTuple):
    """The settings of a kube-proxy from one source. None means that the source does not set it, or is not readable."""

    mode: Optional[str] = None
    scheduler: Optional[str] = None
    strict_arp: Optional[bool] = None
    metrics_address: Optional[str] = None
    healthz_address: Optional[str] = None
    origin: str = ""

    @property
    def requested_mode(self) -> Optional[str]:
        """The mode that it requests; without one, that is the default."""
        return self.mode if self.mode != "" else known_values.DEFAULT_MODE


class Healthz(NamedTuple):
    """The answer of /healthz: whether kube-proxy is healthy, and whether its node may receive traffic."""

    healthy: bool
    node_eligible: bool = True
    last_updated: str = ""


def parse_config(data: bytes) -> Settings:
    """Return the settings in a KubeProxyConfiguration. Raises DocumentError."""
    tree = yaml_tree.parse(data)
    top = _items(tree)
    ipvs = _items(top.get("ipvs"))
    texts = {name: _scalar(top.get(key)) for name, key in _KEYS.items()}
    texts.update({name: _scalar(ipvs.get(key)) for name, key in _IPVS_KEYS.items()})
    return from_values({"mode": "", **{name: text for name, text in texts.items() if text is not None}}, "")


def _items(node: Optional[yaml_tree.Node]) -> dict[str, yaml_tree.Node]:
    return {key.text: value for key, value in node.items} if isinstance(node, yaml_tree.Mapping) else {}


def _scalar(node: Optional[yaml_tree.Node]) -> Optional[str]:
    if not isinstance(node, yaml_tree.Scalar):
        return None
    return "" if node.kind == "null" else node.text


def from_values(values: Mapping[str, object], origin: str) -> Settings:
    """Return settings from values of any type. Values of the wrong type count as not set."""

    def text(name: str) -> Optional[str]:
        value = values.get(name)
        return printable.line(value, _MAX_WORD) if isinstance(value, str) else None

    strict = values.get("strict_arp")
    if isinstance(strict, str):
        strict = {"true": True, "false": False}.get(strict.lower())
    return Settings(
        text("mode"), text("scheduler"), strict if isinstance(strict, bool) else None,
        text("metrics_address"), text("healthz_address"), origin,
    )  # fmt: skip


def parse_word(data: bytes) -> Optional[str]:
    text = data.decode("ascii", "replace").strip()
    return text if re.fullmatch(rf"[A-Za-z0-9_-]{{1,{_MAX_WORD}}}", text) else None


def parse_configz(data: bytes) -> Optional[Settings]:
    """Return the settings in an answer of /configz, or None if it contains none.

    The keys are those of the internal type (`IPVS.StrictARP`) or of v1alpha1 (`ipvs.strictARP`), by version.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    top = _lowered(_lowered(document).get(_GROUP))
    if not top:
        return None
    ipvs = _lowered(top.get("ipvs"))
    values = {name: top.get(key.lower()) for name, key in _KEYS.items()}
    values.update({name: ipvs.get(key.lower()) for name, key in _IPVS_KEYS.items()})
    return from_values(values, "/configz")


def _lowered(value: object) -> dict[str, Any]:
    return {str(key).lower(): item for key, item in value.items()} if isinstance(value, dict) else {}


def parse_healthz(status: int, data: bytes) -> Healthz:
    """Return an answer of /healthz. Versions before 1.28 do not report whether the node is eligible."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    values = document if isinstance(document, dict) else {}
    updated = values.get("lastUpdated")
    return Healthz(
        status == 200,
        values.get("nodeEligible") is not False,
        printable.line(updated, _MAX_WORD) if isinstance(updated, str) else "",
    )


_BUILD = re.compile(rb"^kubernetes_build_info\{([^}\n]{1,2000})\}", re.MULTILINE)
_GIT_VERSION = re.compile(rb'git_?[vV]ersion="(v([0-9]{1,3})\.([0-9]{1,3})[A-Za-z0-9.+-]{0,40})"')


def parse_version(metrics: bytes) -> tuple[str, Optional[tuple[int, int]]]:
    """Return the version in the metric kubernetes_build_info, as text and as (major, minor), or an empty one."""
    build = _BUILD.search(metrics)
    found = _GIT_VERSION.search(build[1]) if build else None
    if found is None or found[2] == b"0":  # v0.0.0 is a build without a version
        return "", None
    return found[1].decode("ascii"), (int(found[2]), int(found[3]))
