"""The same for systemd's own units: files in /etc that make a node right at boot without ipvsd.

Only names that the kernel has are written: one unknown name fails systemd-modules-load.service.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence

from ipvsd import __version__
from ipvsd.config import Config
from ipvsd.model import ModuleFinding, ModuleVerdict, Policy, SysctlFinding, SysctlVerdict, Within
from ipvsd.values import satisfies, target

MODULES_LOAD = "etc/modules-load.d/ipvsd.conf"
MODPROBE = "etc/modprobe.d/ipvsd.conf"
SYSCTL = "etc/sysctl.d/90-ipvsd.conf"

_TO_BE_HAD = (ModuleVerdict.LIVE, ModuleVerdict.BUILT_IN, ModuleVerdict.LOADABLE)
_HEADER = f"""\
# Written by 'ipvsd apply --persist' (ipvsd {__version__}), replaced by the next one,
# removed when the package is purged. Change /etc/ipvsd instead.
"""


def files(config: Config, modules: Sequence[ModuleFinding], sysctls: Sequence[SysctlFinding]) -> Mapping[str, str]:
    """Return what the files have to hold, by their paths below the root; one without content holds its header."""
    there = [finding for finding in modules if to_be_had(finding)]
    bodies = {
        MODULES_LOAD: [finding.module for finding in there],
        MODPROBE: [f"options {item.module} {' '.join(item.wanted.options)}" for item in there if item.wanted.options],
        SYSCTL: list(_settings(config, sysctls, {finding.module for finding in there})),
    }
    return {path: "\n".join((_HEADER, *dict.fromkeys(lines), "")) for path, lines in bodies.items()}


def to_be_had(finding: ModuleFinding) -> bool:
    """Tell whether the kernel has the module, loaded or not."""
    return finding.verdict in _TO_BE_HAD


def write(root: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Write the files, each in one step, and return the paths of those that changed. Raises OSError."""
    changed = []
    for path, text in texts.items():
        place = os.path.join(root, path)
        if _read(place) == text:
            continue
        os.makedirs(os.path.dirname(place), exist_ok=True)
        beside = f"{place}.new"
        with open(beside, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, place)
        changed.append(place)
    return tuple(changed)


def stale(root: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths of the files that exist and hold something else, versions in the header aside."""
    found = []
    for path, text in texts.items():
        held = _read(os.path.join(root, path))
        if held is not None and _body(held) != _body(text):
            found.append(os.path.join(root, path))
    return tuple(found)


def _settings(config: Config, sysctls: Sequence[SysctlFinding], modules: Collection[str]) -> Iterator[str]:
    """Yield the lines of sysctl.d(5), in its own way of patterns and exclusions."""
    done = set()
    for finding in sysctls:
        wanted = finding.wanted
        name = wanted.group or finding.name
        absent = finding.verdict is SysctlVerdict.UNSUPPORTED or (
            finding.missing and wanted.provider is not None and wanted.provider not in modules
        )
        if name in done or wanted.policy is not Policy.ENFORCE or absent:
            continue
        done.add(name)
        if wanted.group:
            yield from (f"-{name.replace('*', exclude, 1)}" for exclude in config.sysctls[name].exclude)
            yield f"{name} = {target(wanted.want, '')}"
        elif not isinstance(wanted.want, Within):
            yield f"{name} = {target(wanted.want, finding.found or '')}"
        elif finding.found is not None:
            kept = finding.found if satisfies(name, finding.found, wanted.want) else target(wanted.want, finding.found)
            yield f"# {wanted.want}; a fixed value must not lower the kernel's own"
            yield f"{name} = {kept}"
        else:
            yield f"# {name} {wanted.want}: only the running kernel tells whether its own value is lower"


def _body(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None
