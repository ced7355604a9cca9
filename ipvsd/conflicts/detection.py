"""Collect the settings of all conflicting programs under a root, and compare them with the desired state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from ipvsd.conflicts import firewalld, modprobe, modules_load, networkd, networkmanager, sysctl_d, tuned, ufw
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.model.types import Want
from ipvsd.sysctl import semantics, values

# In the order in which the programs act at boot.
_READERS = (modprobe, modules_load, sysctl_d, networkd, ufw, tuned, firewalld, networkmanager)


@dataclass(frozen=True)
class ConflictReport:
    """`unreadable_files` are the files that are there and could not be read, each with the reason."""

    settings: tuple[ExternalSetting, ...]
    unreadable_files: Mapping[str, str]


def detect(root: str, names: Names, known: Mapping[str, str] = {}) -> ConflictReport:
    """Return the settings of these names in files, some with `known` texts. Raises rootfs.UnreadableError."""
    tree = FileTree(root, known)
    found = tuple(setting for reader in _READERS for setting in reader.settings(tree, names))
    return ConflictReport(found, tree.unreadable_files)


def complies(setting: ExternalSetting, want: Optional[Want]) -> Optional[bool]:
    """Return whether a setting agrees with the desired state, or None if that is unknown or nothing is desired."""
    if setting.failure:
        return False
    if setting.effect in (Effect.LOADS, Effect.RUNS):
        return True
    if setting.effect is Effect.INTERFERES:
        return None
    if setting.effect is not Effect.SETS:
        return False if setting.certain else None
    if want is None or "${" in setting.value:
        return None
    # From `1 # note`, the kernel reads the number, whatever program writes it.
    value = semantics.accepted_value(sysctl_d.path_of(setting.name), setting.value)
    if value is not None and values.satisfies(setting.name, value, want):
        return True
    return False if setting.certain else None
