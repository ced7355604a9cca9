"""Find the processes of kube-proxy in /proc: of a unit, in a container or pod, or inside k3s."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from ipvsd.config import yaml_tree
from ipvsd.kernel import cgroups, process_files
from ipvsd.kube_proxy import k3s_config
from ipvsd.runtime import rootfs

MAX_CONFIG = 1 << 20  # bytes of a configuration file
_MAX_PROCESSES = 8  # candidates that are examined

# Programs with a kube-proxy inside them, by the name of their process: the file of their flags, and the unit.
_K3S = ("k3s-server", "k3s-agent", "k3s")
_K3S_CONFIG, _K3S_DROP_INS = "etc/rancher/k3s/config.yaml", "etc/rancher/k3s/config.yaml.d"
_RKE2 = "rke2"


class Kind(enum.Enum):
    """How a kube-proxy runs."""

    PROCESS = "process"
    CONTAINER = "container"
    POD = "pod"
    STATIC_POD = "static_pod"  # kubelet starts it from a file of the node
    EMBEDDED = "embedded"  # inside k3s


class Process(NamedTuple):
    """A process that is a kube-proxy, or contains one. `host_program` is k3s or rke2 if that runs it."""

    pid: int
    comm: str
    kind: Kind
    unit: str = ""
    container: str = ""
    pod: str = ""
    host_program: str = ""
    flags: Mapping[str, str] = {}
    other_network: bool = False  # its network namespace is not that of this command

    def __str__(self) -> str:
        place = {
            Kind.PROCESS: f" of {self.unit}" if self.unit else "",
            Kind.CONTAINER: f" in container {self.container[:12]}",
            Kind.POD: f" in pod {self.pod}",
            Kind.STATIC_POD: f" in static pod {self.pod}",
            Kind.EMBEDDED: f" of {self.unit or self.host_program}",
        }
        return f"{self.comm}[{self.pid}]{place[self.kind]}"


def find(root: str, listed: Sequence[tuple[int, str]]) -> Sequence[Process]:
    """Return those of the `listed` processes that run kube-proxy, the most likely one first.

    That is one in this network namespace, with the lowest ID.
    """
    names = {comm for _, comm in listed}
    own = process_files.network_namespace(root, 1) if root != "/" else process_files.own_network_namespace()
    found = [
        process
        for pid, comm in listed
        for process in [_kube_proxy(root, pid, comm, names) or _embedded(root, pid, comm)]
        if process and process_files.owned_by_root(root, pid)
    ][:_MAX_PROCESSES]
    marked = [item._replace(other_network=_is_other(root, item.pid, own)) for item in found]
    return sorted(marked, key=lambda item: (item.other_network, item.kind is Kind.EMBEDDED, item.pid))


def _is_other(root: str, pid: int, own: Optional[str]) -> bool:
    namespace = process_files.network_namespace(root, pid)
    return own is not None and namespace is not None and namespace != own


def _kube_proxy(root: str, pid: int, comm: str, names: set[str]) -> Optional[Process]:
    if comm not in ("kube-proxy", "hyperkube"):
        return None
    words = process_files.arguments(root, pid)
    if comm == "hyperkube" and not any(word in ("kube-proxy", "proxy") for word in words[1:2]):
        return None
    flags = parse_flags(words[1:])
    if flags.get("cleanup", "false") != "false" or flags.get("version", "false") != "false":
        return None  # it ends by itself
    owner = _owner(root, pid)
    kind = Kind.CONTAINER if owner.container else Kind.PROCESS
    if owner.pod:
        # The UID of a static pod is the digest of its manifest, without hyphens.
        kind = Kind.POD if "-" in owner.pod else Kind.STATIC_POD
    host_program = _RKE2 if owner.pod and _RKE2 in names else ""
    return Process(pid, comm, kind, owner.unit, owner.container, owner.pod, host_program, flags)


def _embedded(root: str, pid: int, comm: str) -> Optional[Process]:
    """Return a k3s with a kube-proxy inside. Its flags are those of kube-proxy."""
    if comm not in _K3S:
        return None
    words = process_files.arguments(root, pid)
    if comm == "k3s" and not any(word in ("server", "agent") for word in words[1:2]):
        return None
    settings = [*_k3s_settings(root), *k3s_arguments(words[1:])]  # the command line always appends
    disabled = [value for name, value in settings if name == k3s_config.DISABLE]
    if disabled and k3s_config.is_true(disabled[-1]):
        return None
    flags = dict(parse_flags([f"--{value}" for name, value in settings if name == k3s_config.ARGUMENTS]))
    return Process(pid, comm, Kind.EMBEDDED, _owner(root, pid).unit, host_program="k3s", flags=flags)


def _owner(root: str, pid: int) -> cgroups.CgroupOwner:
    first = cgroups.parse_path(_text(process_files.read(root, 1, "cgroup")))
    own = cgroups.parse_path(_text(process_files.read(root, pid, "cgroup")))
    return cgroups.identify(cgroups.relative_path(own, first))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# --- flags ------------------------------------------------------------------------------

SETTING_FLAGS = {
    "proxy-mode": "mode",
    "ipvs-scheduler": "scheduler",
    "ipvs-strict-arp": "strict_arp",
    "metrics-bind-address": "metrics_address",
    "healthz-bind-address": "healthz_address",
}
_BOOLEAN = ("ipvs-strict-arp", "cleanup", "version")
KNOWN_FLAGS = (*SETTING_FLAGS, "config", *_BOOLEAN)


def parse_flags(words: Sequence[str]) -> Mapping[str, str]:
    """Return the flags that matter here, each with its last value (pflag: `--name=value`, `--name value`)."""
    flags: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in KNOWN_FLAGS:
            continue
        if name in _BOOLEAN:
            flags[name] = value.lower() if equals else "true"
        elif equals:
            flags[name] = value
        else:
            flags[name] = next(remaining, "")
    return flags


def k3s_arguments(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the options of k3s that concern kube-proxy, from its command line."""
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-"):
            continue
        if name == k3s_config.ARGUMENTS:
            yield name, value if equals else next(remaining, "")
        elif name == k3s_config.DISABLE:
            yield name, value if equals else "true"


def _k3s_settings(root: str) -> Iterator[tuple[str, str]]:
    """Yield the same options from the files of k3s. A file that cannot be read yields nothing."""
    try:
        drop_ins = [f"{_K3S_DROP_INS}/{name}" for name in sorted(rootfs.listing(root, _K3S_DROP_INS))]
    except OSError:
        drop_ins = []
    pairs: dict[str, list[tuple[str, yaml_tree.Node]]] = {k3s_config.ARGUMENTS: [], k3s_config.DISABLE: []}
    for path in (_K3S_CONFIG, *(name for name in drop_ins if name.lower().endswith((".yaml", ".yml")))):
        try:
            tree = yaml_tree.parse(rootfs.read(root, path, MAX_CONFIG))
        except (OSError, yaml_tree.DocumentError):
            continue
        for key, value in tree.items if isinstance(tree, yaml_tree.Mapping) else ():
            if k3s_config.name_of(key.text) in pairs:
                pairs[k3s_config.name_of(key.text)].append((key.text, value))
    for name, given in pairs.items():
        for _, value in given[k3s_config.first_applied([key for key, _ in given]) :]:
            items = value.items if isinstance(value, yaml_tree.Sequence) else (value,)
            yield from ((name, item.text) for item in items if isinstance(item, yaml_tree.Scalar))
