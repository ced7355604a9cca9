"""What the files of a system say of its kernel's modules: which there are, and what keeps them out."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
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
        self._alias_key: object = None
        self._alias_index: Optional[tuple[str, Index]] = None
        self._indexed_aliases: Mapping[str, str] = {}
        self._unset_key: object = None
        self._unset_lines: Mapping[str, str] = {}
        self._strays = _Strays()

    def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        """Return the kernel with all that is known about why `names` are not in it."""
        tree = os.path.join(modules_directory(self._root), kernel.release)
        directives = (*self._read_directives(), *modprobe_d.from_command_line(self._text("proc/cmdline") or ""))
        strange = [name for name in names if name not in kernel.loadable and name not in kernel.built_in]
        # Those of modprobe.d come before the module of the name, those of the index after it.
        aliases = {**self._aliases(tree, strange), **modprobe_d.aliases(directives, names)}
        absent = [name for name in strange if name not in aliases]
        index = self._index_of(tree).look(tuple(aliases.values())) if aliases else None
        return kernel._replace(
            loadable=kernel.loadable | index.loadable if index else kernel.loadable,
            built_in=kernel.built_in | index.built_in if index else kernel.built_in,
            aliases=aliases,
            unindexed=self._strays.look(tree, absent) if absent and kernel.indexed else {},
            unset=self._unset(kernel.release, absent) if absent else {},
            rules=modprobe_d.rules(directives, {aliases.get(name, name) for name in names}),
            lock=self._lock(),
        )

    def _aliases(self, tree: str, names: Collection[str]) -> Mapping[str, str]:
        if not names:
            return {}
        path = os.path.join(tree, "modules.alias")
        key = (path, _stamp(path), tuple(names))
        if key != self._alias_key:
            self._indexed_aliases = formats.module_aliases(_read(path) or "", names)
            self._alias_key = key
        return self._indexed_aliases

    def _index_of(self, tree: str) -> Index:
        if self._alias_index is None or self._alias_index[0] != tree:
            self._alias_index = (tree, Index(tree))
        return self._alias_index[1]

    def _read_directives(self) -> tuple[Directive, ...]:
        stamps = modprobe_d_stamps(self._root)
        if stamps != self._stamps:
            self._directives = modprobe_d.directives((path, _read(path) or "") for path in stamps)
            self._stamps = stamps
        return self._directives

    def _unset(self, release: str, names: Collection[str]) -> Mapping[str, str]:
        paths = [os.path.join(self._root, "boot", f"config-{release}")]
        paths.append(os.path.join(modules_directory(self._root), release, "config"))
        if release == (self._text("proc/sys/kernel/osrelease") or "").strip():
            paths.append(os.path.join(self._root, "proc/config.gz"))
        key = (tuple(map(_stamp, paths)), tuple(names))
        if key != self._unset_key:
            text = next((text for text in map(_kernel_configuration, paths) if text is not None), "")
            self._unset_lines, self._unset_key = kconfig.left_out(text, names), key
        return self._unset_lines

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


def modules_directory(root: str) -> str:
    """Return the directory of the kernels' module trees.

    In an image the link /lib may be absolute, and lead out of it.
    """
    merged = os.path.join(root, "usr/lib/modules")
    return merged if root != "/" and os.path.isdir(merged) else os.path.join(root, "lib/modules")


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
            if name.endswith((".conf", ".alias")) and not name.startswith("."):
                chosen.setdefault(name, os.path.join(path, name))
    return {chosen[name]: _stamp(chosen[name]) for name in sorted(chosen)}


class _Strays:
    """The files in a kernel's tree that its index does not list; the tree is walked again only when it changed."""

    def __init__(self) -> None:
        self._key: object = None
        self._stamps: Mapping[str, Stamp] = {}
        self._found: Mapping[str, str] = {}

    def look(self, tree: str, names: Collection[str]) -> Mapping[str, str]:
        """Return the path of a file for those of `names` that have one."""
        key = (tree, tuple(names))
        if key != self._key or any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
            self._key, self._found, self._stamps = key, {}, {}
            self._found, self._stamps = _walk(tree, names)
        return self._found


def _walk(top: str, names: Collection[str]) -> tuple[Mapping[str, str], Mapping[str, Stamp]]:
    """Return the module files below `top` that are called as one of `names`, and the stamp of every directory."""
    found: dict[str, str] = {}
    stamps: dict[str, Stamp] = {}
    for directory, _, files in os.walk(top):
        stamps[directory] = _stamp(directory)
        for name in files:
            if ".ko" in name and _module_of(name) in names:
                found[_module_of(name)] = os.path.join(directory, name)
    return found, stamps


def _kernel_configuration(path: str) -> Optional[str]:
    import gzip  # needed for a module that is missing, and nothing else
    import zlib

    try:
        with gzip.open(path, "rt", errors="replace") if path.endswith(".gz") else open(path, errors="replace") as file:
            return file.read()
    except (OSError, EOFError, zlib.error):
        return None


def _module_of(name: str) -> str:
    match = re.match(r"([A-Za-z0-9_-]+)\.ko(?:\.(?:gz|xz|zst))?\Z", name)
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
