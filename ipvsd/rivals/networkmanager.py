"""NetworkManager: whether it is told to leave alone kube-ipvs0, the interface that holds kube-proxy's addresses.

kube-proxy keeps that interface down, and by default NetworkManager touches no such one; but whoever brings it up,
or a version that sees it otherwise, makes it NetworkManager's, which then may take the addresses of the services away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from ipvsd.rivals import Effect, Names, Program, Setting, ini
from ipvsd.rivals.ini import Entry
from ipvsd.rivals.tree import Tree

INTERFACE = "kube-ipvs0"
CONF = "etc/NetworkManager/NetworkManager.conf"
_DROP_INS = tuple(f"{place}/NetworkManager/conf.d" for place in ("etc", "run", "usr/lib"))
_REMEDY = (
    "put '[keyfile]' and 'unmanaged-devices+=interface-name:kube-ipvs0' into "
    "/etc/NetworkManager/conf.d/ipvs.conf, and reload it"
)


def settings(tree: Tree, names: Names) -> Iterator[Setting]:
    """Yield a setting of ip_vs if systemd starts NetworkManager, and it is not told to leave the interface alone."""
    if "ip_vs" not in names.modules or not tree.enabled("NetworkManager.service"):
        return
    entries = [entry for file in _files(tree) for entry in ini.entries(tree.shown(file), tree.read(file) or "")]
    told = [entry for entry in entries if entry.section == "keyfile" and entry.key.startswith("unmanaged-devices")]
    if _listed(told) or _unmanaged(entries):
        return
    origin, text = (told[-1].origin, str(told[-1])) if told else (tree.shown(CONF), "no unmanaged-devices=")
    text = f"{text}; {INTERFACE} may be managed"
    yield Setting("ip_vs", Effect.DISTURBS, Program.NETWORK_MANAGER, origin, text, certain=False, remedy=_REMEDY)


def _files(tree: Tree) -> list[str]:
    """Return the files in their order: those of /etc/NetworkManager/conf.d come after the main one."""
    drop_ins = tree.merged(_DROP_INS)
    own = [file for file in drop_ins if file.startswith("etc/")]
    return [*(file for file in drop_ins if file not in own), CONF, *own]


def _listed(entries: Sequence[Entry]) -> bool:
    """Tell whether unmanaged-devices covers the interface; `+=` adds to what was said before, `-=` takes away."""
    specs: list[str] = []
    for entry in entries:
        parts = _specs(entry.value)
        if entry.key.endswith("+"):
            specs += parts
        elif entry.key.endswith("-"):
            specs = [spec for spec in specs if spec not in parts]
        else:
            specs = parts
    return _covered(specs)


def _unmanaged(entries: Sequence[Entry]) -> bool:
    """Tell whether a [device] section takes the interface out; nothing is decided between several of them."""
    sections = {entry.section for entry in entries if re.match(r"device(?:-|\Z)", entry.section)}
    for section in sections:
        managed, match = ini.last(entries, section, "managed"), ini.last(entries, section, "match-device")
        if managed and ini.truth(managed.value) is False and (match is None or _covered(_specs(match.value))):
            return True
    return False


def _specs(text: str) -> list[str]:
    return [spec.strip() for spec in re.split(r"[,;]", text) if spec.strip()]


def _covered(specs: Sequence[str]) -> bool:
    """Tell whether a list of devices has the interface (NetworkManager.conf(5), "Device List Format")."""
    excepted = [spec[len("except:") :] for spec in specs if spec.startswith("except:")]
    others = [spec for spec in specs if not spec.startswith("except:")]
    return bool(specs) and not any(map(_fits, excepted)) and (not others or any(map(_fits, others)))


def _fits(spec: str) -> bool:
    kind, colon, what = spec.partition(":")
    if kind == "interface-name" and colon:
        if what.startswith("="):
            return what[1:] == INTERFACE
        return fnmatchcase(INTERFACE, what.removeprefix("~").replace("[", "[[]"))
    return spec in ("*", INTERFACE, "type:dummy", "driver:dummy")
