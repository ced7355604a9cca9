"""systemd-networkd: forwarding by networkd.conf(5) and systemd.network(5), with their drop-ins.

`IPForward=` (until systemd 255) only ever turns forwarding on, for the whole node; from 256 on it is ignored with a
warning. `IPv4Forwarding=` and `IPv6Forwarding=` (from 256 on) set it both ways: in networkd.conf for the node, in a
.network file for its links (src/network/networkd-sysctl.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Optional

from ipvsd.rivals import Effect, Names, Program, Setting, ini
from ipvsd.rivals.ini import Entry
from ipvsd.rivals.sysctl_d import twins
from ipvsd.rivals.tree import PLACES, Tree

_FAMILIES = {"IPv4Forwarding": "ipv4", "IPv6Forwarding": "ipv6"}
_SYSTEMD = tuple(f"{place}/systemd" for place in PLACES)
_NETWORK = tuple(f"{place}/systemd/network" for place in PLACES)


def settings(tree: Tree, names: Names) -> Iterator[Setting]:
    """Yield what systemd-networkd makes of the sysctls, if systemd starts it."""
    if not tree.enabled("systemd-networkd.service"):
        return
    node = _entries(tree, tree.first([f"{place}/networkd.conf" for place in _SYSTEMD]), _SYSTEMD)
    links = [_entries(tree, file, _NETWORK) for file in tree.merged(_NETWORK, ".network")]
    for name in names.sysctls:
        paths = twins(name)
        yield from _of_node(name, paths, node)
        yield from (found for entries in links for found in _of_links(name, paths, entries))


def _entries(tree: Tree, file: Optional[str], places: Sequence[str]) -> list[Entry]:
    """Return the entries of a file and of its drop-ins, which come after it."""
    base = (file or "networkd.conf").rpartition("/")[2]
    files = [*([file] if file else []), *tree.merged([f"{place}/{base}.d" for place in places])]
    return [entry for path in files for entry in ini.entries(tree.shown(path), tree.read(path) or "")]


def _of_node(name: str, paths: Sequence[str], entries: Sequence[Entry]) -> Iterator[Setting]:
    for option, family in _FAMILIES.items():
        if any(path in paths for path in _paths(family, "all", "default")):
            yield from _forwarding(name, option, entries)


def _of_links(name: str, paths: Sequence[str], entries: Sequence[Entry]) -> Iterator[Setting]:
    forward = ini.last(entries, "Network", "IPForward")
    for family in ("ipv4", "ipv6"):
        on = forward is not None and (forward.value == family or ini.truth(forward.value))
        if forward and on and any(path in paths for path in _paths(family, "all")):
            yield _setting(name, forward, "1", wins=True, certain=False)
    for option, family in _FAMILIES.items():
        link = next((match[1] for match in map(_LINK[family].match, paths) if match), None)
        if link not in (None, "all", "default"):
            fits = _fits(entries, link or "")
            if fits is not False:
                yield from _forwarding(name, option, entries, certain=bool(fits))


_LINK = {family: re.compile(rf"net/{family}/conf/([^/]+)/forwarding\Z") for family in ("ipv4", "ipv6")}


def _paths(family: str, *links: str) -> list[str]:
    return [f"net/{family}/conf/{link}/forwarding" for link in links]


def _fits(entries: Sequence[Entry], link: str) -> Optional[bool]:
    """Tell whether [Match] fits the link; None where it asks for more than a name."""
    keys = {entry.key for entry in entries if entry.section == "Match"}
    said = ini.last(entries, "Match", "Name")
    if said is None:
        return None
    words = said.value.lstrip("!").split()
    named = any(fnmatchcase(link, word) for word in words) is not said.value.startswith("!")
    return None if named and keys > {"Name"} else named


def _forwarding(name: str, option: str, entries: Sequence[Entry], certain: bool = True) -> Iterator[Setting]:
    found = [entry for entry in entries if (entry.section, entry.key) == ("Network", option)]
    for entry in found:
        on = ini.truth(entry.value)
        if on is not None:
            yield _setting(name, entry, "1" if on else "0", entry is found[-1], certain)


def _setting(name: str, entry: Entry, value: str, wins: bool, certain: bool) -> Setting:
    remedy = f"correct {entry.key}= in {entry.origin.rpartition(':')[0]}, or remove it"
    return Setting(name, Effect.SETS, Program.NETWORKD, entry.origin, str(entry), value, wins, certain, remedy)
