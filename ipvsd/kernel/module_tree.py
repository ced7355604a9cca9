"""The module tree of one kernel under a root, as libkmod reads it: depmod's binary indexes, and the listed files.

These functions raise rootfs.UnreadableError if it is unknown whether files exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from errno import EACCES
from stat import S_ISDIR
from typing import TYPE_CHECKING, Optional

from ipvsd.modprobe import kernel_names
from ipvsd.modprobe.module_index import DamagedError, ModuleIndex
from ipvsd.runtime import rootfs
from ipvsd.sysctl import values

if TYPE_CHECKING:
    from ipvsd.kernel.module_compression import CompressionSupport

# Possible places of module trees. kmod uses the one that it was built with. The first one counts.
_PLACES = ("lib/modules", "usr/lib/modules")
# A file in an earlier directory masks files of the same name in later ones (modprobe.d(5)).
MODPROBE_D = ("etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")
# The file of nf_conntrack lacks the type of hashsize (module_param_call(), net/netfilter/nf_conntrack_core.c). The
# other types are known without reading the file (net/netfilter/ipvs/ip_vs_conn.c).
_TYPES = {
    ("nf_conntrack", "hashsize"): "uint",
    ("nf_conntrack", "expect_hashsize"): "uint",
    ("ip_vs", "conn_tab_bits"): "int",
}
_NUMBERS = ("byte", "short", "ushort", "int", "uint", "long", "ulong", "ullong", "hexint")  # <linux/moduleparam.h>
_MAX_BYTES = 1 << 26  # bytes of an index, or of a module file

Stamp = Optional[tuple[int, int, int]]


def releases(root: str) -> tuple[str, ...]:
    """Return the names in the directories of module trees, unsorted."""
    return tuple({name: None for place in _PLACES for name in rootfs.names(root, place)})


def version(release: str) -> tuple[object, ...]:
    """Return a sort key for releases, with numbers of any length."""
    parts = re.findall(r"0*([0-9]+)|([^0-9]+)", release)
    return tuple((0, len(digits), digits) if digits else (1, 0, rest) for digits, rest in parts)


def directory(root: str, release: str) -> str:
    """Return the path of a kernel's tree under the root: one with an index if possible, by default the first place."""
    paths = [f"{place}/{release}" for place in _PLACES]
    existing = [path for path in paths if rootfs.exists(root, path)]
    indexed = [path for path in existing if rootfs.exists(root, f"{path}/modules.dep.bin")]
    return (indexed or existing or paths)[0]


class ModuleTree:
    """One tree, with a cache of what was read. It implements `load_steps.Tree`."""

    def __init__(self, root: str, release: str) -> None:
        self._root, self.release = root, release
        self.path = directory(root, release)
        self._indexes: dict[str, Optional[ModuleIndex]] = {}
        self._lines: dict[str, Sequence[str]] = {}
        self._built_in: dict[str, bool] = {}
        self._exists: dict[str, bool] = {}
        self._compression: Optional[CompressionSupport] = None

    @property
    def indexed(self) -> bool:
        return self._index("modules.dep") is not None

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """A value that changes whenever the indexes do."""
        names = ("modules.dep.bin", "modules.alias.bin", "modules.builtin.bin", "modules.builtin", "modules.softdep")
        return tuple(stamp(self._root, self._below(name)) for name in names)

    @property
    def valid(self) -> bool:
        """Whether the queried files still exist, or are still missing."""
        return all(rootfs.exists(self._root, self._below(file)) is existed for file, existed in self._exists.items())

    def depends(self, module: str) -> Sequence[str]:
        if module not in self._lines:
            own, colon, others = (self._value("modules.dep", module) or "").partition(":")
            self._lines[module] = (own, *others.split()) if colon else ()
        return self._lines[module]

    def aliased(self, name: str) -> Sequence[str]:
        return self._matching("modules.alias", name)

    def exporting(self, symbol: str) -> Sequence[str]:
        return self._matching("modules.symbols", symbol)

    def built_in(self, module: str) -> bool:
        if module not in self._built_in:
            self._built_in[module] = self._value("modules.builtin", module) is not None
        return self._built_in[module]

    def built_in_aliased(self, name: str) -> Sequence[str]:
        return self._matching("modules.builtin.alias", name)

    def exists(self, file: str) -> bool:
        if file not in self._exists:
            self._exists[file] = rootfs.exists(self._root, self._below(file))
        return self._exists[file]

    def unsupported_compression(self, file: str) -> str:
        """A kernel that decompresses modules itself lists the format (since 5.17, used by kmod 31 and later)."""
        compression = self.unreadable_compression(file)
        unpacks = (rootfs.text(self._root, "sys/module/compression") or "").strip() if compression else ""
        return "" if compression == unpacks else compression

    def unreadable_compression(self, file: str) -> str:
        """Return the compression of a file if this system's kmod and depmod cannot read it, otherwise an empty text."""
        if file.endswith(".ko"):
            return ""
        from ipvsd.kernel import module_compression  # not needed if module files are not compressed

        self._compression = self._compression or module_compression.CompressionSupport(self._root)
        return self._compression.unreadable(file)

    def accepts(self, file: str, parameter: str, value: Optional[str]) -> bool:
        """Uses the types in the module's file, and a few known ones. The kernel ignores unknown parameters."""
        if value is not None and values.integer(value) is not None:
            return True  # nearly all values are numbers, and need not read the file
        kind = _TYPES.get((file.rpartition("/")[2].partition(".")[0], parameter)) or self._type(file, parameter)
        if value is None:
            return kind in ("", "bool", "bint")
        return kind not in _NUMBERS

    def _type(self, file: str, parameter: str) -> str:
        from ipvsd.kernel import module_compression

        data = rootfs.content(self._root, self._below(file), _MAX_BYTES) or b""
        content = module_compression.decompress(data, _MAX_BYTES) or b""
        match = re.search(rb"\0parmtype=" + re.escape(parameter.encode()) + rb":([^\0]*)\0", content)
        return match[1].decode("utf-8", "replace") if match else ""

    def shown(self, file: str) -> str:
        return os.path.join(self._root, self._below(file))

    def forget(self) -> None:
        """Free the memory of the indexes. The next query reads them again."""
        self._indexes = {}

    def _below(self, file: str) -> str:
        return os.path.join(self.path, file)

    def _value(self, index: str, key: str) -> Optional[str]:
        found = self._index(index)
        try:
            return found.value(key) if found else None
        except DamagedError:
            return None

    def _matching(self, index: str, name: str) -> Sequence[str]:
        found = self._index(index)
        try:
            return found.matching(name) if found else ()
        except DamagedError:
            return ()

    def _index(self, name: str) -> Optional[ModuleIndex]:
        if name not in self._indexes:
            self._indexes[name] = _open(self._root, self._below(f"{name}.bin"))
        return self._indexes[name]


def _open(root: str, path: str) -> Optional[ModuleIndex]:
    data = rootfs.content(root, path, _MAX_BYTES)
    try:
        return ModuleIndex(data) if data else None
    except ValueError:
        return None


class Index:
    """The entries of a kernel's module tree, read again only after a change of its files."""

    def __init__(self, root: str, release: str) -> None:
        self._root, self._release = root, release
        self._key: object = None
        self._names: frozenset[str] = frozenset()
        self.readable = False
        self.loadable: frozenset[str] = frozenset()
        self.built_in: frozenset[str] = frozenset()

    def update(self, names: Collection[str]) -> Index:
        tree = ModuleTree(self._root, self._release)
        key = (tree.path, tree.stamps)
        if key != self._key or frozenset(names) != self._names:
            readable, loadable = tree.indexed, frozenset(name for name in names if tree.depends(name))
            # The kernel's package contains the text file, and depmod creates the binary index.
            text = rootfs.text(self._root, f"{tree.path}/modules.builtin") or ""
            built_in = kernel_names.indexed_names(text, names) | frozenset(filter(tree.built_in, names))
            self.readable, self.loadable, self.built_in = readable, loadable, built_in
            # If an existing index could not be read, the next call tries again.
            failed = key[1][0] is not None and not tree.indexed
            self._key, self._names = None if failed else key, frozenset(names)
        return self


def modprobe_d_stamps(root: str) -> Mapping[str, Stamp]:
    """Return the files of modprobe.d(5) under a root, in order, each with a stamp that changes with its content.

    A broken link masks files of the same name in later directories. A directory does not.
    """
    chosen: dict[str, Stamp] = {}
    paths: dict[str, str] = {}
    for place in MODPROBE_D:
        for name in rootfs.names(root, place):
            if name in paths or not name.endswith((".conf", ".alias")) or name.startswith("."):
                continue
            status = rootfs.status(root, f"{place}/{name}")
            if status is None or not S_ISDIR(status.st_mode):
                paths[name] = f"{place}/{name}"
                chosen[name] = _stamp_of(status)
    return {paths[name]: chosen[name] for name in sorted(paths)}


def stamp(root: str, path: str) -> Stamp:
    """Return a value that changes with a file's content, or None if it is absent or this user may not see it."""
    try:
        return _stamp_of(rootfs.status(root, path))
    except rootfs.UnreadableError as error:
        if error.errno != EACCES:
            raise
        return None


def _stamp_of(status: Optional[os.stat_result]) -> Stamp:
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None
