"""Detect nodes that lose their default route because of IPv6 forwarding, as they have it from router advertisements.

With forwarding, the kernel accepts advertisements on an interface only if its accept_ra is 2, and removes the routers
that it learned before (ipv6_accept_ra() in include/net/ipv6.h, rt6_purge_dflt_routers() in net/ipv6/route.c).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Optional

from ipvsd.conflicts.file_tree import FileTree
from ipvsd.conflicts.sysctl_d import systemd_lines
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.roots import classify_root
from ipvsd.model.types import Plan, Policy, RootKind
from ipvsd.model.value_texts import listed
from ipvsd.sysctl import sysctl_names, values

_ALL = "net.ipv6.conf.all.forwarding"
_EVERY = "net.ipv6.conf.*.accept_ra"
_FORWARDING, _ACCEPT_RA = (rf"net\.ipv6\.conf\..+\.{name}\Z" for name in ("forwarding", "accept_ra"))
_CONCERNED = re.compile(f"{_FORWARDING}|{_ACCEPT_RA}")
_SHOWN = 3
# Virtual interfaces, for a tree that does not show which interfaces are devices.
_VIRTUAL = re.compile(
    r"(?:lo|kube-ipvs0|dummy\d*|nodelocaldns|docker\d+|br-.*|cni\d*|flannel.*|tunl\d+)\Z|veth|cali|lxc"
)


def notes_of_tree(root: str, plan: Plan, names: Collection[str] = ()) -> tuple[str, ...]:
    """Return the notes about a node, or about an image, whose interfaces are unknown.

    With `names`, return only notes about the interfaces of these sysctls. Raises rootfs.UnreadableError.
    """
    if names and not any(map(_CONCERNED.match, names)):
        return ()
    if classify_root(root) is not RootKind.FIRST_BOOT:
        return notes(LinuxHost(root), plan, names)
    wanted = _wanted(plan)
    forwarding = any(re.match(_FORWARDING, name) and value == "1" for name, value in wanted.items())
    accepted = any(re.match(_ACCEPT_RA, name) and value == "2" for name, value in wanted.items())
    if not forwarding or accepted or _sets_accept_ra(FileTree(root)):
        return ()
    return (
        "the kernel will ignore default routes from router advertisements, because IPv6 forwarding will be enabled, "
        "and no line sets accept_ra to 2 (if an interface needs them, set "
        "'sysctls: {net.ipv6.conf.INTERFACE.accept_ra: 2}')",
    )


def notes(host: LinuxHost, plan: Plan, names: Collection[str] = ()) -> tuple[str, ...]:
    """Return the notes about the interfaces of a node, or only of those in `names`. Raises rootfs.UnreadableError."""
    wanted = _wanted(plan)
    found = [name for name in _uplinks(host) if _ignores(name, host, wanted) and _is_named(name, names)]
    if not found:
        return ()
    key = f"net.ipv6.conf.{found[0].replace('.', '/')}.accept_ra"
    return (
        f"the kernel ignores default routes from router advertisements on {listed(found, _SHOWN)}, because "
        f"IPv6 forwarding is enabled and accept_ra is 1 (to accept them, set 'sysctls: {{{key}: 2}}')",
    )


def _wanted(plan: Plan) -> dict[str, str]:
    return {
        finding.name: values.value_to_write(finding.desired.want, finding.actual or "")
        for finding in plan.sysctls
        if finding.desired.policy is not Policy.OBSERVE
    }


def _sets_accept_ra(tree: FileTree) -> bool:
    return any(line.value == "2" and re.match(_ACCEPT_RA, line.path.replace("/", ".")) for line in systemd_lines(tree))


def _is_named(interface: str, names: Collection[str]) -> bool:
    """Return whether one of these sysctls belongs to an interface, or to all. A pattern counts for all."""
    parts = [sysctl_names.part(name, 3) or "" for name in names]
    return not names or any(part in ("all", interface) or "*" in part for part in parts)


def _uplinks(host: LinuxHost) -> Iterator[str]:
    routes = host.default_routes()
    names = [sysctl_names.escape_part(sysctl_names.part(name, 3) or "") for name in host.expand([_EVERY])[_EVERY]]
    for name in sorted(set(names) - {"all", "default", "lo"}):
        device = host.is_device(name)
        if routes is None:
            likely = not _VIRTUAL.match(name) if device is None else device
        else:
            # If a person has configured another default route, none is missing.
            likely = routes.get(name, not routes and device is True)
        if likely:
            yield name


def _ignores(name: str, host: LinuxHost, wanted: Mapping[str, str]) -> bool:
    """Return whether the interface forwards, or will, and ignores advertisements because of that."""
    base = f"net.ipv6.conf.{name.replace('.', '/')}"
    forwarding = _value((f"{base}.forwarding", _ALL), host, wanted)
    return forwarding == "1" and _value((f"{base}.accept_ra",), host, wanted) == "1"


def _value(names: Collection[str], host: LinuxHost, wanted: Mapping[str, str]) -> Optional[str]:
    """Return the first desired value of these names, or else the first actual value, or None."""
    found = next((wanted[name] for name in names if name in wanted), None)
    readings = (host.read_sysctl(name) for name in names) if found is None else ()
    return found if found is not None else next((text for text in readings if isinstance(text, str)), None)
