"""When ufw starts, it lets procps write the file that IPT_SYSCTL= in /etc/default/ufw names, after systemd-sysctl.

It applies if ENABLED=yes in /etc/ufw/ufw.conf. The shell reads both files, in this order
(/lib/ufw/ufw-init-functions of 0.36: `sysctl -e -q -p $IPT_SYSCTL`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.conflicts.sysctl_d import path_of, procps_assignments, simulate_procps
from ipvsd.kernel import shell_assignments
from ipvsd.sysctl import sysctl_names
from ipvsd.sysctl.semantics import canonical_path

_FILES = ("etc/default/ufw", "etc/ufw/ufw.conf")


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    """Yield the settings that ufw applies to the sysctls, if systemd starts it and it is enabled."""
    if not tree.enabled("ufw.service") or _value(tree, "ENABLED") not in ("yes", "YES"):
        return
    file = _value(tree, "IPT_SYSCTL") or ""
    shown = tree.shown(file.lstrip("/"))
    found = list(procps_assignments(shown, tree.read(file.lstrip("/")) or "")) if file.startswith("/") else []
    result = simulate_procps(found, map(path_of, names.sysctls))
    named: dict[str, list[int]] = {}
    for number, line in enumerate(found):
        named.setdefault(canonical_path(line.path), []).append(number)
    places = {id(line): number for number, line in enumerate(found)}
    for name in names.sysctls:
        winner = result.winners.get(path_of(name))
        numbers = {*named.get(canonical_path(path_of(name)), ()), *([places[id(winner)]] if winner else [])}
        for line in (found[number] for number in sorted(numbers)):
            if line.value is not None:
                value = result.values[path_of(name)] if line is winner else sysctl_names.canonical(line.value)
                fails = result.failing.get(line.origin, "")
                remedy = f"correct the line in {shown}, or remove it"
                yield ExternalSetting(
                    name, Effect.SETS, Program.UFW, line.origin, line.text, value, line is winner, True, remedy, fails
                )


def _value(tree: FileTree, name: str) -> Optional[str]:
    """Return the value of a shell variable after both files, or None if it is unset or unknown."""
    return shell_assignments.certain("\n".join(tree.read(file) or "" for file in _FILES), name)
