"""Everything that the files below a root say about some names, and whether it leaves them as they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from ipvsd.conflicts import firewalld, modprobe, modules_load, networkd, networkmanager, sysctl_d, tuned, ufw
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.model.types import Want
from ipvsd.sysctl import semantics, values

# In the order in which they act at boot.
_READERS = (modprobe, modules_load, sysctl_d, networkd, ufw, tuned, firewalld, networkmanager)


@dataclass(frozen=True)
class ConflictReport:
    """`unread` are the files that are there and could not be read, each with the reason."""

    settings: tuple[ExternalSetting, ...]
    unread: Mapping[str, str]


def detect(root: str, names: Names, known: Mapping[str, str] = {}) -> ConflictReport:
    """Return what is on disk about the names. Files are read, and nothing else is done.

    Raises rootfs.UnreadableError if a file of modprobe's cannot be read.

    `known` are texts that stand for those of some files: what /proc will say after a boot.
    """
    tree = FileTree(root, known)
    found = tuple(setting for reader in _READERS for setting in reader.settings(tree, names))
    return ConflictReport(found, dict(tree.unread))


def agrees(setting: ExternalSetting, want: Optional[Want]) -> Optional[bool]:
    """Tell whether a setting leaves what is wanted; None where that cannot be told, or nothing is wanted.

    Modules are wanted in the kernel. `values` says what is right, as for the planner.
    """
    if setting.failure:
        return False
    if setting.effect in (Effect.LOADS, Effect.RUNS):
        return True
    if setting.effect is Effect.DISTURBS:
        return None
    if setting.effect is not Effect.SETS:
        return False if setting.certain else None
    if want is None or "${" in setting.value:
        return None
    # The kernel takes of `1 # note` the number, from every program.
    value = semantics.accepted_value(sysctl_d.path_of(setting.name), setting.value)
    if value is not None and values.satisfies(setting.name, value, want):
        return True
    return False if setting.certain else None
