"""What the files of a system say of its kernel's modules: which there are, and what keeps them out."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Optional

from ipvsd import formats, kconfig, modprobe_d
from ipvsd.model import Kernel, Lock
from ipvsd.modprobe_d import Directive

# The first directory masks a file of the same name in the others (modprobe.d(5)).
MODPROBE_D = ("etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")
_CAP_SYS_MODULE = 1 << 16  # <linux/capability.h>
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

Stamp = Optional[tuple[int, int, int]]


class Index:
    """What the tree of one kernel's modules lists, read again only when its files changed."""

    def __init__(self, tree: str) -> None:
        """`tree` is /lib/modules/RELEASE, or that of another root."""
        self._files = (os.path.join(tree, "modules.dep"), os.path.join(tree, "modules.builtin"))
        self._key: object = None
        self._names: frozenset[str] = frozenset()
        self.readable = False
        self.loadable: frozenset[str] = frozenset()
        self.built_in: frozenset[str] = frozenset()

    def look(self, names: Collection[str]) -> Index:
        """Find out about `names` and return itself."""
        key = tuple(_stamp(path) for path in self._files)
        if key != self._key or frozenset(names) != self._names:
            texts = [_read(path) for path in self._files]
            self.readable = texts[0] is not None
            self.loadable, self.built_in = (formats.indexed_names(text or "", names) for text in texts)
            # A file that is there and could not be read is tried again.
            failed = any(stamp and text is None for stamp, text in zip(key, texts))
            self._key, self._names = None if failed else key, frozenset(names)
        return self


class Obstacles:
    """What keeps modules from being loaded, or from being found, below one root."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._stamps: Mapping[str, Stamp] = {}
        self._directives: tuple[Directive, ...] = ()

    def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        """Return the kernel with all that is known about why `names` are not in it."""
        tree = os.path.join(self._root, "lib/modules", kernel.release)
        directives = (*self._read_directives(), *modprobe_d.from_command_line(self._text("proc/cmdline") or ""))
        strange = [name for name in names if name not in kernel.loadable and name not in kernel.built_in]
        aliases = self._aliases(directives, tree, strange)
        absent = [name for name in strange if name not in aliases]
        index = Index(tree).look(tuple(aliases.values())) if aliases else None
        return dataclasses.replace(
            kernel,
            loadable=kernel.loadable | index.loadable if index else kernel.loadable,
            built_in=kernel.built_in | index.built_in if index else kernel.built_in,
            aliases=aliases,
            unindexed=_strays(tree, absent) if absent and kernel.indexed else {},
            unset=kconfig.unset(self._kernel_configuration(kernel.release), absent) if absent else {},
            rules=modprobe_d.rules(directives, {aliases.get(name, name) for name in names}),
            lock=self._lock(),
        )

    def _aliases(self, directives: tuple[Directive, ...], tree: str, names: Collection[str]) -> Mapping[str, str]:
        if not names:
            return {}
        found = formats.module_aliases(_read(os.path.join(tree, "modules.alias")) or "", names)
        return {**found, **modprobe_d.aliases(directives, names)}

    def _read_directives(self) -> tuple[Directive, ...]:
        stamps = modprobe_d_stamps(self._root)
        if stamps != self._stamps:
            self._directives = modprobe_d.directives((path, _read(path) or "") for path in stamps)
            self._stamps = stamps
        return self._directives

    def _kernel_configuration(self, release: str) -> str:
        for path in (f"boot/config-{release}", f"lib/modules/{release}/config", f"usr/lib/kernel/config-{release}"):
            text = self._text(path)
            if text is not None:
                return text
        try:
            with gzip.open(os.path.join(self._root, "proc/config.gz"), "rt", errors="replace") as file:
                return file.read()
        except (OSError, EOFError):
            return ""

    def _lock(self) -> Lock:
        bounding = re.search(r"^CapBnd:\s*([0-9a-f]{1,16})$", self._text("proc/self/status") or "", re.MULTILINE)
        demands = []
        lockdown = re.search(r"\[(integrity|confidentiality)\]", self._text("sys/kernel/security/lockdown") or "")
        if lockdown:
            demands.append(f"lockdown={lockdown[1]}")
        if (self._text("sys/module/module/parameters/sig_enforce") or "").startswith("Y"):
            demands.append("module.sig_enforce=1")
        if (self._text(_SECURE_BOOT) or "").endswith("\x01"):
            demands.append("Secure Boot")
        return Lock(
            disabled=(self._text("proc/sys/kernel/modules_disabled") or "").strip() == "1",
            incapable=bounding is not None and not int(bounding[1], 16) & _CAP_SYS_MODULE,
            signed=", ".join(demands),
        )

    def _text(self, path: str) -> Optional[str]:
        return _read(os.path.join(self._root, path))


def modprobe_d_stamps(root: str) -> Mapping[str, Stamp]:
    """Return the files of modprobe.d(5) in their order, each with what changes when its content does."""
    chosen: dict[str, str] = {}
    for directory in MODPROBE_D:
        path = os.path.join(root, directory)
        try:
            names = os.listdir(path)
        except OSError:
            continue
        for name in names:
            if name.endswith(".conf"):
                chosen.setdefault(name, os.path.join(path, name))
    return {chosen[name]: _stamp(chosen[name]) for name in sorted(chosen)}


def _strays(tree: str, names: Collection[str]) -> Mapping[str, str]:
    """Return the files in a kernel's tree that are called as one of `names`; its index does not list them."""
    return {_module_of(path): path for path in _module_files(tree) if _module_of(path) in names}


def _module_files(directory: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _module_files(entry.path)
        elif ".ko" in entry.name:
            yield entry.path


def _module_of(path: str) -> str:
    match = re.match(r"([A-Za-z0-9_-]+)\.ko(?:\.(?:gz|xz|zst))?\Z", os.path.basename(path))
    return match[1].replace("-", "_") if match else ""


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
