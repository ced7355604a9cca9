"""Correct misspelt names, and find the full names for short ones.

A misspelling is reported only if it is certain, because an unknown name can belong to another kernel.
"""

from __future__ import annotations

import functools
import pkgutil
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Optional

from ipvsd.config.profiles import PROFILES, SCHEDULERS, module_names
from ipvsd.sysctl import sysctl_names

# Common names of the schedulers, in lower case without punctuation. The first ones are those of ipvsadm(8).
_SCHEDULER_NAMES = {
    "rr": "roundrobin robin",
    "wrr": "weightedroundrobin weightedrr",
    "lc": "leastconnection leastconnections leastconn",
    "wlc": "weightedleastconnection weightedleastconnections weightedleastconn",
    "lblc": "localitybasedleastconnection localitybasedleastconnections",
    "lblcr": "localitybasedleastconnectionwithreplication localitybasedleastconnectionswithreplication",
    "dh": "destinationhashing destinationhash desthash",
    "sh": "sourcehashing sourcehash source iphash",
    "mh": "maglev maglevhashing maglevhash",
    "sed": "shortestexpecteddelay",
    "nq": "neverqueue",
    "fo": "failover weightedfailover",
    "ovf": "overflow weightedoverflow",
    "twos": "poweroftwochoices poweroftwo p2c",
}
_SCHEDULERS = {name: scheduler for scheduler, names in _SCHEDULER_NAMES.items() for name in names.split()}

# Modules that people use in addition to those of the profiles.
_MODULES = """
    bonding br_netfilter bridge dummy geneve ip6_tables ip6t_REJECT ip6table_filter ip6table_mangle ip6table_nat
    ip_set ip_set_bitmap_ip ip_set_bitmap_ipmac ip_set_bitmap_port ip_set_hash_ip ip_set_hash_ipmac
    ip_set_hash_ipmark ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet ip_set_hash_mac
    ip_set_hash_net ip_set_hash_netiface ip_set_hash_netnet ip_set_hash_netport ip_set_hash_netportnet
    ip_set_list_set ip_tables ip_vs_ftp ip_vs_pe_sip ipip ipt_REJECT iptable_filter iptable_mangle iptable_nat
    ipvlan macvlan nf_conntrack_ipv4 nf_conntrack_ipv6 nf_log_syslog nf_nat nf_reject_ipv4 nf_reject_ipv6
    nf_tables nfnetlink nft_compat overlay tun veth vxlan wireguard x_tables xt_MASQUERADE xt_REDIRECT
    xt_addrtype xt_comment xt_conntrack xt_mark xt_multiport xt_nat xt_physdev xt_recent xt_set xt_statistic
    xt_tcpudp
""".split()

_SCHEDULER = "ip_vs_"
MIN_SIMILARITY = 0.8  # minimum similarity of two words for a guess
PARAMETERS = ("nf_conntrack.hashsize", "ip_vs.conn_tab_bits")
_IN_INTERFACE = 5  # number of parts of such a name


def nearest(word: str, known: Iterable[str], min_similarity: float = 0.6) -> Optional[str]:
    import difflib

    plain = {_plain(name): name for name in known}
    close = difflib.get_close_matches(_plain(word), plain, 1, min_similarity)
    return plain[close[0]] if close else None


def is_misspelling(word: str, known: str) -> bool:
    """Return whether a word is another one with so few typing errors that it cannot be a different name."""
    if _plain(word) == _plain(known):
        return word != known
    parts, others = re.split("[-_]", word.lower()), re.split("[-_]", known.lower())
    if len(parts) != len(others) or re.findall("[0-9]", word) != re.findall("[0-9]", known):
        return False
    pairs = zip(parts, others)  # a different number makes a different name
    return all(one == other or _edit_distance(one, other) <= _max_distance(one, other) for one, other in pairs)


def _closest(word: str, known: Iterable[str]) -> Optional[str]:
    """Return the known word of which this is a misspelling, with the fewest typing errors, or None."""
    similar = (name for name in known if is_misspelling(word, name))
    found = [(_plain(word) != _plain(name), _edit_distance(word, name), name) for name in similar]
    return min(found)[2] if found else None


def scheduler(text: str) -> Optional[str]:
    plain = re.sub(r"^ipvs(?=.)", "", _plain(re.sub(r"\.ko(\.[a-z]+)?$", "", text.strip())))
    if plain in SCHEDULERS:
        return plain
    words = {**_SCHEDULERS, **{name: name for name in SCHEDULERS if len(name) > 2}}
    closest = words.get(plain) or words.get(nearest(plain, words, 0.75) or "")
    one_off = [name for name in SCHEDULERS if len(plain) > 2 and _edit_distance(plain, name) == 1]
    return closest or (one_off[0] if one_off else None)


def modules() -> frozenset[str]:
    named = (name for profile in PROFILES.values() for name in module_names(profile))
    return frozenset((*named, *_MODULES, *(f"ip_vs_{name}" for name in SCHEDULERS)))


def module(name: str) -> Optional[str]:
    known = modules()
    if name in known:
        return None
    # A scheduler has a module of its name, and people use its long name here as well.
    suggestion = scheduler(name[len(_SCHEDULER) :]) if name.startswith(_SCHEDULER) else None
    return f"{_SCHEDULER}{suggestion}" if suggestion else _closest(name, known)


def sysctl(name: str) -> Optional[str]:
    """Return the sysctl or pattern of which this is certainly a misspelling, or None. Both are canonical names."""
    path = tuple(part.replace("/", ".") for part in name.split("."))
    if len(path) > _IN_INTERFACE and is_of_interface(path):
        path = (*path[:3], ".".join(path[3:-1]), path[-1])
        whole = sysctl_names.join_parts(path)
        return sysctl(whole) or whole
    if _known(path) or sysctl_names.is_pattern(path[-1]):
        return None
    found = next(filter(None, (_in_directory(path, directory) for directory in _directories())), None)
    return sysctl_names.join_parts(found) if found else _ignore_separators(path)


def is_known(name: str) -> bool:
    return _known(tuple(part.replace("/", ".") for part in name.split(".")))


def parameter(name: str) -> Optional[str]:
    """Return the known parameter of which MODULE.PARAMETER is certainly a misspelling, or None."""
    module_name, _, typed = name.partition(".")
    known = [item.partition(".") for item in PARAMETERS]
    closest = _closest(typed, (leaf for owner, _, leaf in known if owner == module_name))
    return f"{module_name}.{closest}" if closest else None


def find_by_short_name(word: str) -> tuple[str, ...]:
    """Return every sysctl, module and parameter with this short name. IFACE stands for an interface."""
    plain = _plain(word)
    found = [
        f"{'.'.join(directory).replace('*', 'IFACE')}.{leaf}"
        for directory, leaves in _directories().items()
        for leaf in leaves
        if _plain(leaf) == plain
    ]
    names = [sysctl_names.ALIASES.get(name, name) for name in found]
    names += [name for name in modules() if plain == _plain(name) or f"nf{plain}" == _plain(name)]
    names += [name for name in PARAMETERS if _plain(name.partition(".")[2]) == plain]
    suggestion = scheduler(word)
    names += [f"ip_vs_{suggestion}"] if suggestion and (plain == suggestion or plain in _SCHEDULERS) else []
    return tuple(dict.fromkeys(names))


def guess(name: str, others: Collection[str] = ()) -> Optional[str]:
    """Return the probable meaning of an unknown name, or None. `others` are sysctls of this kernel beside it."""
    closest = nearest(name.rpartition(".")[2], {other.rpartition(".")[2]: None for other in others}, MIN_SIMILARITY)
    certain = sysctl(name) if "." in name else module(name)
    if certain or closest:
        return certain or f"{name.rpartition('.')[0]}.{closest}"
    leaves = {leaf: directory for directory, names in _directories().items() for leaf in names}
    leaf = name.rpartition(".")[2]
    close = leaf if leaf in leaves else nearest(leaf, leaves, MIN_SIMILARITY)
    if close is None:
        return None if "." in name else nearest(name, modules(), MIN_SIMILARITY)
    directory = [part.replace("*", "all") for part in leaves[close]]
    typed = name.split(".")
    if leaves[close][3:] == ("*",) and len(typed) == _IN_INTERFACE:
        directory[3] = typed[3].replace("/", ".")
    return sysctl_names.join_parts((*directory, close))


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _max_distance(one: str, other: str) -> int:
    longest = max(len(one), len(other))
    if longest == 4:  # an omitted or extra letter, or two swapped ones; a changed letter makes a different word
        return int(len(one) != len(other) or sorted(one) == sorted(other))
    return 0 if longest < 5 else 1 if longest < 8 else 2


def _edit_distance(one: str, other: str) -> int:
    """Return the number of letters that were omitted, added, changed or swapped with the next one."""
    if abs(len(one) - len(other)) > 2:
        return 3
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, theirs in enumerate(other, 1):
            least = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != theirs))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == theirs:
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return rows[-1][-1]


def known_sysctls() -> Mapping[str, Collection[str]]:
    """Return the names of sysctl/names.list, by their directory, in which * is an interface."""
    text = (pkgutil.get_data("ipvsd.sysctl", "names.list") or b"").decode()
    return {name: leaves.split() for name, leaves in re.findall(r"^(\S+):\n((?:  .*\n)+)", text, re.MULTILINE)}


@functools.lru_cache(maxsize=1)
def _directories() -> Mapping[tuple[str, ...], Collection[str]]:
    found = {tuple(name.split(".")): dict.fromkeys(leaves) for name, leaves in known_sysctls().items()}
    for profile in PROFILES.values():
        for entry in profile.sysctls:
            directory, _, leaf = entry.key.rpartition(".")
            if not is_of_interface(tuple(entry.key.split("."))):
                found.setdefault(tuple(directory.split(".")), {})[leaf] = None
    return found


def is_of_interface(path: Sequence[str]) -> bool:
    """Return whether the path of a sysctl has an interface as its fourth part."""
    return len(path) > 3 and path[0] == "net" and path[1] in ("ipv4", "ipv6") and path[2] in ("conf", "neigh")


def _template(path: tuple[str, ...]) -> tuple[str, ...]:
    return (*path[:3], "*", *path[4:-1]) if is_of_interface(path) else path[:-1]


def _known(path: tuple[str, ...]) -> bool:
    return path[-1] in _directories().get(_template(path), ())


def _in_directory(path: tuple[str, ...], directory: tuple[str, ...]) -> Optional[tuple[str, ...]]:
    if len(directory) != len(path) - 1:
        return None
    pairs = [(typed, known) for typed, known in zip(path, directory) if known not in ("*", typed)]
    leaf = path[-1]
    within = tuple(typed if known == "*" else known for typed, known in zip(path, directory))
    if not pairs:
        closest = _closest(leaf, _directories()[directory])
        return (*within, closest) if closest else None
    # A known directory can gain files in later kernels. Only an unknown directory is certainly misspelt.
    if len(pairs) > 1 or _template(path) in _directories() or leaf not in _directories()[directory]:
        return None
    typed, known = pairs[0]
    return (*within, leaf) if _edit_distance(typed, known) == 1 and len(leaf) > 4 else None


def _ignore_separators(path: tuple[str, ...]) -> Optional[str]:
    plain, places = _plain("".join(path)), [place for place in _directories().items() if "*" not in place[0]]
    names = (".".join((*directory, leaf)) for directory, leaves in places for leaf in leaves)
    return next((name for name in names if _plain(name) == plain and name != ".".join(path)), None)
