"""The system's module loader: libkmod in this process. Every package depends on the library, as systemd does.

It obeys modprobe.d, and does not load a module that the administrator has blacklisted. It returns 0 not only for
success, so only /proc/modules proves that a module is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import Optional, Protocol

from ipvsd.kernel.module_tree import modprobe_d_stamps
from ipvsd.model.types import TRANSIENT_ERRNOS

# enum kmod_probe, enum kmod_resources of libkmod.h.
_PROBE_APPLY_BLACKLIST = 0x20000
_RESOURCES_OK = 0
_FRESH = 0.1  # seconds for which the context is assumed to match the files
_QUERY_TIMEOUT, _QUERY_LIMIT = 3.0, 1 << 24  # seconds and bytes for journalctl


class BlacklistedError(Exception):
    """modprobe.d forbids the module."""


class LoadError(Exception):
    """The module could not be loaded. The text is the reason that the kernel or the loader gives.

    `errno` is 0 if there is none. `built_for` is the kernel release for which a rejected file was built.
    """

    def __init__(self, reason: str, number: int = 0, built_for: str = "") -> None:
        super().__init__(reason)
        self.errno, self.built_for = number, built_for


class Loader(Protocol):
    def load(self, name: str, options: Sequence[str] = ()) -> None:
        """Load a module and its dependencies. `options` apply to the module. Raises BlacklistedError or LoadError."""


class Libkmod:
    """libkmod, which reloads a module in less than half the time of `modprobe`. Several threads can use it."""

    def __init__(self) -> None:
        """Raises LoadError if libkmod cannot be opened now."""
        try:
            library = ctypes.CDLL("libkmod.so.2")
        except OSError as error:  # without an errno
            number = next((number for number in TRANSIENT_ERRNOS if str(error).endswith(os.strerror(number))), 0)
            raise LoadError(f"cannot open libkmod: {error}", number) from None
        for name in ("new", "unref", "list_next", "module_get_module", "module_unref"):
            getattr(library, f"kmod_{name}").restype = ctypes.c_void_p
        for name in ("module_info_get_key", "module_info_get_value"):
            getattr(library, f"kmod_{name}").restype = ctypes.c_char_p
        self._library = library
        self._unused: list[_Context] = []

    def load(self, name: str, options: Sequence[str] = ()) -> None:
        try:
            context = self._unused.pop()
        except IndexError:
            context = _Context(self._library)
        try:
            context.load(name, options)
        finally:
            self._unused.append(context)
            if len(self._unused) > 1:  # one of another thread; later, one is enough
                with contextlib.suppress(IndexError):
                    self._unused.pop().close()


class _Context:
    """A context of libkmod, which serves one thread at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._context: Optional[ctypes.c_void_p] = None
        self._stamps: object = None
        self._checked_at = -math.inf  # CLOCK_MONOTONIC time of the last comparison with the files
        self._unread = 0  # errno of the last attempt to read the indexes

    def load(self, name: str, options: Sequence[str]) -> None:
        context = self._refresh()
        found = ctypes.c_void_p()
        error = self._library.kmod_module_new_from_lookup(context, name.encode(), ctypes.byref(found))
        if error < 0:
            raise LoadError(os.strerror(-error), -error)
        # Without its index, libkmod knows no name. Before kmod 30, ENOMEM can also mean that one of the indexes is
        # missing.
        if not found and self._unread in TRANSIENT_ERRNOS:
            self.close()
            raise LoadError(os.strerror(self._unread), self._unread)
        if not found:
            raise LoadError("unknown module: not in the kernel's module index")
        try:
            for module in self._modules(found):
                self._insert(module, " ".join(options))
        finally:
            self._library.kmod_module_unref_list(found)

    def _modules(self, found: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
        item = found
        while item:
            module = ctypes.c_void_p(self._library.kmod_module_get_module(item))
            try:
                yield module
            finally:
                self._library.kmod_module_unref(module)
            item = ctypes.c_void_p(self._library.kmod_list_next(found, item))

    def _insert(self, module: ctypes.c_void_p, options: str) -> None:
        # They follow the parameters of modprobe.d, and the kernel uses the last one.
        result = self._library.kmod_module_probe_insert_module(
            module, _PROBE_APPLY_BLACKLIST, options.encode() or None, None, None, None
        )
        if result == _PROBE_APPLY_BLACKLIST:
            raise BlacklistedError
        if result < 0:
            built_for = self._built_for(module) if -result == errno.ENOEXEC else ""
            raise LoadError(os.strerror(-result), -result, built_for)

    def _built_for(self, module: ctypes.c_void_p) -> str:
        library, information = self._library, ctypes.c_void_p()
        if library.kmod_module_get_info(module, ctypes.byref(information)) < 0:
            return ""
        vermagic, item = "", information
        while item:
            if library.kmod_module_info_get_key(item) == b"vermagic":
                vermagic = (library.kmod_module_info_get_value(item) or b"").decode("utf-8", "replace")
            item = ctypes.c_void_p(library.kmod_list_next(information, item))
        library.kmod_module_info_free_list(information)
        return vermagic.partition(" ")[0]

    def close(self) -> None:
        self._library.kmod_unref(self._context)
        self._context = None

    def _refresh(self) -> ctypes.c_void_p:
        """Return the context. Recreate it after a change of modules.dep.bin or modprobe.d."""
        now = time.monotonic()
        if self._context and now - self._checked_at < _FRESH:
            return self._context
        stamps = modprobe_d_stamps("/")  # libkmod itself detects new and deleted files, but not edited ones
        if self._context and (
            stamps != self._stamps or self._library.kmod_validate_resources(self._context) != _RESOURCES_OK
        ):
            self.close()
        self._checked_at = now
        if not self._context:
            self._context = ctypes.c_void_p(self._library.kmod_new(None, None))
            if not self._context:
                raise LoadError("cannot create a libkmod context: out of memory", errno.ENOMEM)
            self._stamps = stamps
            # Otherwise, it prints to standard error what the return values already say.
            self._library.kmod_set_log_priority(self._context, 0)
            self._unread = -self._library.kmod_load_resources(self._context)
            if self._unread in (errno.EMFILE, errno.ENFILE):  # it may also have failed to read modprobe.d
                self.close()
                raise LoadError(os.strerror(self._unread), self._unread)
        return self._context


def last_kernel_message(name: str, since: float) -> str:
    """Return the kernel's last log line about a module since a UNIX time, or an empty text without a readable log."""
    from ipvsd.runtime import command_output  # not needed if nothing fails

    command = ("journalctl", "-q", "-k", "-o", "cat", "--no-pager", f"--since=@{since - 1:.0f}")
    try:
        output = command_output.run(command, _QUERY_LIMIT, _QUERY_TIMEOUT)
    except OSError:
        return ""
    lines = output.text.decode("utf-8", "replace").splitlines() if output.code == 0 else ()
    return next((line.strip() for line in reversed(lines) if line.startswith(f"{name}: ")), "")
