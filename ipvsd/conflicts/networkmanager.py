"""NetworkManager: whether its configuration excludes kube-ipvs0, the interface with kube-proxy's addresses.

By default, it ignores this interface, which kube-proxy keeps down. If another program activates the interface, or a
version behaves differently, NetworkManager manages it, and can remove the addresses of the services.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ipvsd.conflicts import ini_files
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.conflicts.ini_files import Entry
from ipvsd.kube_proxy.known_values import INTERFACE
from ipvsd.sysctl import globs

CONF = "etc/NetworkManager/NetworkManager.conf"
_RELOAD = ", and run 'nmcli general reload'"
_OWN = "etc/NetworkManager/conf.d"
_DROP_INS = (_OWN, "run/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d")


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    """Yield a setting of ip_vs if systemd starts NetworkManager, and no line excludes the interface."""
    if "ip_vs" not in names.modules or not tree.enabled("NetworkManager.service"):
        return
    entries = ini_files.read(tree, _files(tree))
    unmanaged = [entry for entry in entries if entry.section == "keyfile" and entry.key.startswith("unmanaged-devices")]
    if _is_unmanaged_device(unmanaged) or _is_unmanaged_section(entries):
        return
    origin = unmanaged[-1].origin if unmanaged else tree.shown(CONF)
    text = str(unmanaged[-1]) if unmanaged else "no unmanaged-devices="
    file = f"{tree.shown(_OWN)}/{_later_file_name(origin)}{_RELOAD if tree.root == '/' else ''}"
    remedy = f"add the lines '[keyfile]' and 'unmanaged-devices+=interface-name:{INTERFACE}' to {file}"
    program = Program.NETWORK_MANAGER
    yield ExternalSetting("ip_vs", Effect.INTERFERES, program, origin, text, certain=False, remedy=remedy)


def _later_file_name(origin: str) -> str:
    """Return a file name that sorts after the origin of the current setting, where a plain `=` would reset the list."""
    last = origin.rpartition(":")[0].rpartition("/")
    names = ["ipvs.conf", "zz-ipvs.conf"]
    if not last[0].endswith(f"/{_OWN}"):  # all other places are read earlier
        return names[0]
    return next((name for name in names if name > last[2]), f"{last[2].removesuffix('.conf')}~ipvs.conf")


def _files(tree: FileTree) -> list[str]:
    """Return the files in the order of reading: /usr/lib, /run, the main file, /etc/NetworkManager/conf.d.

    A file masks those of the same name in earlier places (nm_config_get_data(), src/core/nm-config.c).
    """
    drop_ins = tree.merged(_DROP_INS)
    own, run, vendor = ([file for file in drop_ins if file.startswith(f"{place}/")] for place in _DROP_INS)
    return [*vendor, *run, CONF, *own]


def _is_unmanaged_device(entries: Sequence[Entry]) -> bool:
    """Return whether unmanaged-devices, to which `+=` adds and from which `-=` removes, covers the interface."""
    specs: list[str] = []
    for entry in entries:
        parts = _specs(entry.value)
        if entry.key.endswith("+"):
            specs += parts
        elif entry.key.endswith("-"):
            specs = [spec for spec in specs if spec not in parts]
        else:
            specs = parts
    return _contains_interface(specs)


def _is_unmanaged_section(entries: Sequence[Entry]) -> bool:
    """Return whether any [device] section excludes the interface. The order of several sections is not evaluated."""
    sections = {entry.section for entry in entries if re.match(r"device(?:-|\Z)", entry.section)}
    for section in sections:
        managed, match = ini_files.last(entries, section, "managed"), ini_files.last(entries, section, "match-device")
        fits = match is None or _contains_interface(_specs(match.value))
        if managed and fits and ini_files.parse_boolean(managed.value) is False:
            return True
    return False


def _specs(text: str) -> list[str]:
    return [spec.strip() for spec in re.split(r"[,;]", text) if spec.strip()]


def _contains_interface(specs: Sequence[str]) -> bool:
    """Return whether a device list contains the interface (NetworkManager.conf(5), "Device List Format")."""
    excepted = [spec[len("except:") :] for spec in specs if spec.startswith("except:")]
    others = [spec for spec in specs if not spec.startswith("except:")]
    return bool(specs) and not any(map(_spec_matches, excepted)) and (not others or any(map(_spec_matches, others)))


def _spec_matches(spec: str) -> bool:
    kind, colon, pattern = spec.partition(":")
    if kind == "interface-name" and colon:
        if pattern.startswith("="):
            return pattern[1:] == INTERFACE
        return globs.matches(globs.quoted(pattern.removeprefix("~"), "[\\"), INTERFACE)
    return spec in ("*", INTERFACE, "type:dummy", "driver:dummy")
