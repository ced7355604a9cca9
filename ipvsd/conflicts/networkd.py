"""systemd-networkd: forwarding in networkd.conf(5) and systemd.network(5), with their drop-ins.

`IPForward=` (ignored from systemd 256 on) can only enable forwarding, for the whole node. `IPv4Forwarding=` and
`IPv6Forwarding=` (from 256 on) enable or disable it: in networkd.conf for the node, in a .network file for its links
(src/network/networkd-sysctl.c).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ipvsd.conflicts import ini_files
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import PLACES, FileTree
from ipvsd.conflicts.ini_files import Entry
from ipvsd.conflicts.sysctl_d import find_matching_names, path_of
from ipvsd.kube_proxy.known_values import INTERFACE
from ipvsd.sysctl import globs
from ipvsd.sysctl.semantics import alias_paths

_SERVICE = "systemd-networkd.service"
_IDLE = "systemd does not start systemd-networkd"
_FAMILIES = {"IPv4Forwarding": "ipv4", "IPv6Forwarding": "ipv6"}
_SYSTEMD = tuple(f"{place}/systemd" for place in PLACES)
_NETWORK = tuple(f"{place}/systemd/network" for place in PLACES)


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    """Yield the settings of the sysctls. They are inactive if systemd does not start systemd-networkd."""
    started = tree.enabled(_SERVICE)
    found = _settings(tree, names)
    yield from found if started else (replace(item, effective=False, inactive=_IDLE) for item in found)
    if started and "ip_vs" in names.modules:
        yield from _interface_settings(tree)


def _settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    node = _entries(tree, tree.first([f"{place}/networkd.conf" for place in _SYSTEMD]), _SYSTEMD)
    links = [_entries(tree, file, _NETWORK) for file in _network_files(tree)]
    for name in names.sysctls:
        paths = alias_paths(path_of(name))
        for option, family in _FAMILIES.items():
            if any(path in paths for path in _paths(family, "all", "default")):
                yield from _forwarding(name, option, node)
        yield from (found for entries in links for found in _of_any_link(name, paths, entries))
        yield from _of_link(name, paths, links)


def find_named(tree: FileTree, patterns: Collection[str]) -> Mapping[str, Collection[str]]:
    """Return the matching sysctls of each pattern that a .network file sets for links with a literal name."""
    files = _network_files(tree) if tree.enabled(_SERVICE) else []
    links = [_entries(tree, file, _NETWORK) for file in files]
    found = dict.fromkeys(path for entries in links for path in _named(entries))
    return find_matching_names(patterns, found)


def _network_files(tree: FileTree) -> list[str]:
    """Return the .network files. systemd-networkd skips one that is empty or masked, together with its drop-ins."""
    return [file for file in tree.merged(_NETWORK, ".network") if tree.read(file)]


def _named(entries: Sequence[Entry]) -> Iterator[str]:
    words = _match_section(entries).get("Name", ())
    for option, family in _FAMILIES.items():
        if words and not words[0].startswith("!") and ini_files.last(entries, "Network", option):
            yield from (path for word in words for path in _paths(family, word))


def _interface_settings(tree: FileTree) -> Iterator[ExternalSetting]:
    """Yield the file by which systemd-networkd manages kube-proxy's interface, and can remove its addresses.

    The first .network file with a matching [Match] counts, sorted by name (systemd.network(5)).
    """
    for file in _network_files(tree):
        entries = _entries(tree, file, _NETWORK)
        if not _matches(entries, _KNOWN):
            continue
        if _is_unmanaged(entries):
            return
        match = [entry for entry in entries if entry.section == "Match"]
        text = f"[Match] {' '.join(map(str, match))}"
        name = file.rpartition("/")[2]
        earlier = next((other for other in _EARLIER if other < name), f"!{name}")
        lines = f"add the lines '[Match]', 'Name={INTERFACE}', '[Link]' and 'Unmanaged=yes' to"
        remedy = f"{lines} {tree.shown(_NETWORK[0])}/{earlier}{_RELOAD if tree.root == '/' else ''}"
        origin = match[0].origin
        yield ExternalSetting("ip_vs", Effect.INTERFERES, Program.NETWORKD, origin, text, certain=False, remedy=remedy)
        return


_RELOAD = ", and run 'networkctl reload'"
_EARLIER = (f"00-{INTERFACE}.network", f"0-{INTERFACE}.network", f"+{INTERFACE}.network")
# The known properties of kube-proxy's interface: a dummy, whose type is ether.
_KNOWN = {"Name": INTERFACE, "OriginalName": INTERFACE, "Kind": "dummy", "Type": "ether", "Driver": "dummy"}


def _match_section(entries: Sequence[Entry]) -> Mapping[str, Sequence[str]]:
    """Return the conditions of [Match]. Lines with the same key add up, and an empty one discards the earlier ones."""
    conditions: dict[str, list[str]] = {}
    for entry in entries:
        if entry.section == "Match":
            conditions[entry.key] = [*conditions.get(entry.key, []), *entry.value.split()] if entry.value else []
    return {key: words for key, words in conditions.items() if words}


def _matches(entries: Sequence[Entry], known: Mapping[str, str]) -> Optional[bool]:
    """Return whether [Match] matches a link with these properties, or None if it has further conditions."""
    conditions = _match_section(entries)
    if not conditions or not all(_matches_any(known[key], words) for key, words in conditions.items() if key in known):
        return False
    return True if conditions.keys() <= known.keys() else None


def _is_unmanaged(entries: Sequence[Entry]) -> bool:
    entry = ini_files.last(entries, "Link", "Unmanaged")
    return entry is not None and ini_files.parse_boolean(entry.value) is True


def _matches_any(value: str, words: Sequence[str]) -> bool:
    """Return whether a list of wildcards matches a value. `!` before the first one negates the whole list."""
    negated = words[0].startswith("!")
    return any(globs.matches(word, value) for word in (words[0].removeprefix("!"), *words[1:])) != negated


def _entries(tree: FileTree, file: Optional[str], places: Sequence[str]) -> list[Entry]:
    base = (file or "networkd.conf").rpartition("/")[2]
    files = [*([file] if file else []), *tree.merged([f"{place}/{base}.d" for place in places])]
    return ini_files.read(tree, files)


def _of_any_link(name: str, paths: Sequence[str], entries: Sequence[Entry]) -> Iterator[ExternalSetting]:
    forward = ini_files.last(entries, "Network", "IPForward")
    for family in ("ipv4", "ipv6"):
        on = forward is not None and (forward.value == family or ini_files.parse_boolean(forward.value))
        if forward and on and any(path in paths for path in _paths(family, "all")):
            yield _setting(name, forward, "1", wins=True, certain=False)


def _of_link(name: str, paths: Sequence[str], links: Sequence[Sequence[Entry]]) -> Iterator[ExternalSetting]:
    """Yield the settings of a link. Only the first matching file counts, sorted by name."""
    for option, family in _FAMILIES.items():
        link = next((match[1] for match in map(_LINK[family].match, paths) if match), "all")
        certain = True
        for entries in links if link not in ("all", "default") else ():
            fits = _matches(entries, {"Name": link})
            if fits is False:
                continue
            certain = certain and fits is True
            if not _is_unmanaged(entries):
                yield from _forwarding(name, option, entries, certain)
            if fits:
                break


_LINK = {family: re.compile(rf"net/{family}/conf/([^/]+)/forwarding\Z") for family in ("ipv4", "ipv6")}


def _paths(family: str, *links: str) -> list[str]:
    return [f"net/{family}/conf/{link}/forwarding" for link in links]


def _forwarding(name: str, option: str, entries: Sequence[Entry], certain: bool = True) -> Iterator[ExternalSetting]:
    found = [entry for entry in entries if (entry.section, entry.key) == ("Network", option)]
    for entry in found:
        on = ini_files.parse_boolean(entry.value)
        if on is not None:
            yield _setting(name, entry, "1" if on else "0", entry is found[-1], certain)


def _setting(name: str, entry: Entry, value: str, wins: bool, certain: bool) -> ExternalSetting:
    remedy = f"correct {entry.key}= in {entry.origin.rpartition(':')[0]}, or remove it"
    return ExternalSetting(name, Effect.SETS, Program.NETWORKD, entry.origin, str(entry), value, wins, certain, remedy)
