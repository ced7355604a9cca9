"""The kernel's own module index and loader: libkmod in this process, or modprobe where it is absent.

Both honour modprobe.d. A module that the administrator blacklisted is not loaded. `modprobe -b`
exits 0 then, and libkmod returns 0 for more than success: only /proc/modules proves a load.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Collection
from typing import Optional, Protocol

from ipvsd import formats

# enum kmod_probe, enum kmod_resources of libkmod.h.
_PROBE_APPLY_BLACKLIST = 0x20000
_RESOURCES_OK = 0


class BlacklistedError(Exception):
    """modprobe.d forbids the module."""


class LoadError(Exception):
    """The module could not be loaded; the text is the kernel's or the loader's reason."""


class Loader(Protocol):
    def load(self, name: str) -> None:
        """Load a module with what it depends on. Raises BlacklistedError or LoadError."""


class Libkmod:
    """libkmod in process: reloads a module in less than half the time of a `modprobe`."""

    def __init__(self) -> None:
        """Raises OSError where there is no libkmod."""
        library = ctypes.CDLL("libkmod.so.2")
        for name in ("kmod_new", "kmod_unref", "kmod_list_next", "kmod_module_get_module", "kmod_module_unref"):
            getattr(library, name).restype = ctypes.c_void_p
        self._library = library
        self._context: Optional[ctypes.c_void_p] = None

    def load(self, name: str) -> None:
        context = self._fresh_context()
        found = ctypes.c_void_p()
        error = self._library.kmod_module_new_from_lookup(context, name.encode(), ctypes.byref(found))
        if error < 0:
            raise LoadError(os.strerror(-error))
        if not found:
            raise LoadError("module not found in the kernel's index")
        try:
            self._insert_all(found)
        finally:
            self._library.kmod_module_unref_list(found)

    def _insert_all(self, found: ctypes.c_void_p) -> None:
        item = found
        while item:
            module = ctypes.c_void_p(self._library.kmod_module_get_module(item))
            result = self._library.kmod_module_probe_insert_module(
                module, _PROBE_APPLY_BLACKLIST, None, None, None, None
            )
            self._library.kmod_module_unref(module)
            if result == _PROBE_APPLY_BLACKLIST:
                raise BlacklistedError
            if result < 0:
                raise LoadError(os.strerror(-result))
            item = ctypes.c_void_p(self._library.kmod_list_next(found, item))

    def _fresh_context(self) -> ctypes.c_void_p:
        """Return the context, made anew when modules.dep.bin or modprobe.d changed since it was made."""
        if self._context and self._library.kmod_validate_resources(self._context) != _RESOURCES_OK:
            self._library.kmod_unref(self._context)
            self._context = None
        if not self._context:
            self._context = ctypes.c_void_p(self._library.kmod_new(None, None))
            if not self._context:
                raise LoadError("libkmod found no memory")
            # It would print to standard error what the return values already say.
            self._library.kmod_set_log_priority(self._context, 0)
            self._library.kmod_load_resources(self._context)
        return self._context


class Modprobe:
    """The modprobe program, for systems without libkmod.so.2."""

    def load(self, name: str) -> None:
        program = shutil.which("modprobe", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program is None:
            raise LoadError("neither libkmod.so.2 nor modprobe is installed")
        done = subprocess.run(
            [program, "-b", "--", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise LoadError(done.stderr.strip().replace("\n", " ") or f"modprobe exited {done.returncode}")


def default_loader() -> Loader:
    """Return libkmod's loader, or modprobe's where the library is absent."""
    try:
        return Libkmod()
    except OSError:
        return Modprobe()


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


def _stamp(path: str) -> Optional[tuple[int, int, int]]:
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
