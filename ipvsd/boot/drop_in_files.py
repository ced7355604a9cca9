"""Files in /etc with which systemd's own units make a node compliant at boot, without ipvsd.

An unknown name causes an error of systemd-modules-load at each boot, and a refused value makes
systemd-sysctl.service fail. So the files contain only items that this kernel has.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from ipvsd import __version__
from ipvsd.boot.sysctl_drop_in import RANGE, lines
from ipvsd.config.desired_state import pattern_rules
from ipvsd.config.schema import Config
from ipvsd.model.types import Kernel, Plan
from ipvsd.model.verdicts import ModuleVerdict
from ipvsd.modprobe import kernel_names
from ipvsd.runtime import rootfs

MODULES_LOAD = "etc/modules-load.d/ipvsd.conf"
MODPROBE = "etc/modprobe.d/ipvsd.conf"
SYSCTL = "etc/sysctl.d/90-ipvsd.conf"

_HEADER = f"""\
# Written by 'ipvsd apply --persist' (ipvsd {__version__}). The next run replaces this file,
# and purging the package removes it. Edit the files in /etc/ipvsd instead.
"""

# Modules that modules.dep lists, but that systemd-modules-load cannot load.
_NOT_LOADABLE = (
    ModuleVerdict.BLACKLISTED,
    ModuleVerdict.OVERRIDDEN,
    ModuleVerdict.INVALID_OPTIONS,
    ModuleVerdict.FILE_MISSING,
    ModuleVerdict.INDEX_STALE,
    ModuleVerdict.COMPRESSION_UNSUPPORTED,
)


def build(config: Config, kernel: Kernel, plan: Plan) -> Mapping[str, str]:
    """Return the content of the files by their paths. Raises rootfs.UnreadableError if an item could not be read."""
    if kernel.unreadable:
        file, _, reason = kernel.unreadable.partition(": ")
        raise rootfs.UnreadableError(0, reason, file)
    for finding in (found for found in plan.sysctls if found.transient):
        raise rootfs.UnreadableError(0, finding.evidence, finding.name)
    known = kernel.loadable | kernel.built_in
    # A damaged index can return any text as the target of an alias, such as two lines.
    named = [finding for finding in plan.modules if finding.module == kernel_names.module_name(finding.module)]
    installable = [finding for finding in named if finding.module in known and finding.verdict not in _NOT_LOADABLE]
    options = (
        f"options {item.module} {' '.join(item.desired.options)}" for item in installable if item.desired.options
    )
    modules = dict.fromkeys(finding.module for finding in installable)
    bodies = {
        # libkmod finds a built-in module by its name only in the index of a tree.
        MODULES_LOAD: [module for module in modules if module not in kernel.built_in_evidence],
        MODPROBE: dict.fromkeys(options),
        SYSCTL: lines(config, pattern_rules(config, kernel), plan.sysctls, modules.keys()),
    }
    return {path: "\n".join((_HEADER, *body, "")) for path, body in bodies.items()}


def write(root: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Write each changed file atomically, and return the paths of those that changed. Raises OSError."""
    changed = []
    for path, text in texts.items():
        data = text.encode("utf-8", "surrogateescape")
        if rootfs.content(root, path) != data:
            rootfs.make_directory(root, os.path.dirname(path))
            rootfs.write(root, path, data, durable=True)
            with contextlib.suppress(OSError):  # leftover files do no harm
                directory, _, name = path.rpartition("/")
                rootfs.remove_temporary_files(root, directory, f"{name}.", rootfs.TEMPORARY_FILE_AGE)
            changed.append(os.path.join(root, path))
    return tuple(changed)


def any_exists(root: str) -> bool:
    """Return whether any of the files exists. Raises rootfs.UnreadableError."""
    return any(rootfs.lexists(root, path) for path in (MODULES_LOAD, MODPROBE, SYSCTL))


def find_outdated(root: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the existing files whose meaning differs, except for ranges. Raises rootfs.UnreadableError."""
    found = []
    for path, text in texts.items():
        data = rootfs.content(root, path)
        if data is not None:
            current = data.decode("utf-8", "surrogateescape")
            ranges = _ranges(current) | _ranges(text)
            if _body(current, ranges) != _body(text, ranges):
                found.append(os.path.join(root, path))
    return tuple(found)


def _ranges(text: str) -> set[str]:
    return {line[len(RANGE) :].split(" ", 1)[0] for line in text.splitlines() if line.startswith(RANGE)}


def _body(text: str, ranges: set[str]) -> list[str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if line.split(" ", 1)[0] not in ranges]
