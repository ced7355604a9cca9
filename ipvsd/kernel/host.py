"""The Host protocol, and LinuxHost. Only LinuxHost, the module loader and `watch/` open /proc and /sys."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Optional, Protocol

from ipvsd.kernel import iptables, os_release, procfs
from ipvsd.kernel.fd_cache import FdCache
from ipvsd.kernel.module_loader import Libkmod, Loader, LoadError, last_kernel_message
from ipvsd.kernel.module_tree import Index
from ipvsd.model.types import MISSING, TRANSIENT_ERRNOS, Kernel, ModuleState, Parameter, Reading, RootKind, Unreadable
from ipvsd.runtime import rootfs
from ipvsd.sysctl import sysctl_names, values
from ipvsd.sysctl.patterns import Matches, Patterns, merge, split

if TYPE_CHECKING:
    from ipvsd.kernel.load_blockers import LoadBlockers

# The kernel clears as much memory as a read requests, which takes longer than the rest of the read.
_FIRST_READ, _MAX_READ = 255, 1 << 16
_MAX_TEXT = 1 << 24  # bytes of a generated file, such as /proc/net/ipv6_route on a node with many routes


class Host(Protocol):
    """A kernel that can be observed and changed. One contract suite tests every implementation.

    Methods that return more than one value raise OSError if something cannot be read.
    """

    def kernel(self, names: Collection[str]) -> Kernel:
        """Return the running kernel, with the entries of its module index for `names`."""

    def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        """Return the kernel with all known reasons why `names` are not loaded."""

    def modules(self, names: Collection[str]) -> Mapping[str, ModuleState]:
        """Return the states of those of `names` that are loaded modules."""

    def module_state(self, name: str) -> Optional[ModuleState]:
        """Return the state of one loaded module without reading the list, or None if it is absent or being removed."""

    def read_sysctl(self, key: str) -> Reading:
        """Return the value of a sysctl, with normalised white space."""

    def write_sysctl(self, key: str, value: str) -> None:
        """Write an existing sysctl. Raises OSError."""

    def expand(self, patterns: Collection[str]) -> Mapping[str, Collection[str]]:
        """Return the sysctls that match each pattern, part by part. Some may have disappeared since.

        Raises PartlyUnreadableError if that is possible for some patterns only.
        """

    def read_parameter(self, name: str) -> Parameter:
        """Return the current state of MODULE.PARAMETER."""

    def write_parameter(self, name: str, value: str) -> None:
        """Write a parameter of a loaded module. Raises OSError."""

    def load_module(self, name: str, options: Sequence[str] = ()) -> None:
        """Load a module with these parameters. Raises module_loader.BlacklistedError or module_loader.LoadError.

        Two threads can load modules at the same time.
        """


class PartlyUnreadableError(rootfs.UnreadableError):
    """Some patterns could not be expanded. `errors` are the reasons, and `matches` those of the other patterns."""

    def __init__(self, matches: Matches, errors: Mapping[str, OSError]) -> None:
        first = next(iter(errors.values()))
        super().__init__(first.errno, first.strerror, first.filename)
        self.matches, self.errors = matches, errors


class LinuxHost:
    """The kernel whose /proc, /sys and /lib/modules are below `root`. A root other than / requires a `loader`.

    `fds` are the open descriptors of sysctls, which are read and written through them.
    """

    def __init__(
        self,
        root: str = "/",
        loader: Optional[Loader] = None,
        release: Optional[str] = None,
        command_line: Optional[str] = None,
        fds: Optional[FdCache] = None,
    ) -> None:
        """`release` selects a kernel that does not run, and `command_line` is that of its next boot, if it differs.

        Below another root, only `fds` that the caller passes are used: a write through one does not truncate a file.
        """
        self.fds = fds or FdCache()
        self._through_fds = fds is not None or root == "/"
        self._root, self._release, self._command_line = root, release, command_line
        self._live_root = _live_root(root)
        self._sysctls, self._top = os.path.join(self._live_root, "proc/sys"), os.path.realpath(self._live_root)
        self._loader = loader
        self._link_free: set[str] = set()
        self._index: Optional[tuple[str, Index]] = None
        self._load_blockers: Optional[LoadBlockers] = None
        self._distribution = ""

    def kernel(self, names: Collection[str]) -> Kernel:
        own = os.uname().release if self._root == "/" else ""  # not valid for an image
        release = self._release or (self._text("proc/sys/kernel/osrelease") or own).strip()
        if self._index is None or self._index[0] != release:
            self._index = (release, Index(self._root, release))
        self._distribution = self._distribution or self._distribution_id()
        index = self._index[1].update(names)
        cpus = procfs.cpu_count(self._text("sys/devices/system/cpu/online") or "")
        cpus = cpus or (self._root == "/" and os.cpu_count()) or 1
        modular = bool(self._release) or rootfs.exists(self._live_root, "proc/modules")
        return Kernel(
            release, self._distribution, cpus, modular, index.readable, index.loadable, index.built_in,
            read_only=self._read_only(), iptables=iptables.detect(self._root, self._live_root),
            ipv6=iptables.has_ipv6(self._live_root),
        )  # fmt: skip

    def _distribution_id(self) -> str:
        """Return the ID of the distribution, or an empty text if it cannot be read. Only remedies use it."""
        with contextlib.suppress(rootfs.UnreadableError):
            return os_release.distribution(os_release.read(self._root))
        return ""

    def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        live = () if self._release else procfs.live_modules(self._text("proc/modules") or "")
        if self._load_blockers is None:
            from ipvsd.kernel.load_blockers import LoadBlockers  # needed only for missing modules

            self._load_blockers = LoadBlockers(self._root, self._release is None, self._command_line)
        return self._load_blockers.explain(kernel, names, live)

    def _read_only(self) -> frozenset[str]:
        """Return the parts of /proc/sys that are mounted read-only, as in a container: "net", or "" for the rest."""
        if self._release:
            return frozenset()
        if self._root == "/":
            return frozenset(part for part in ("", "net") if _is_read_only(os.path.join(self._sysctls, part)))
        mounts = self._text("proc/self/mountinfo") or ""
        return frozenset(part for part in ("", "net") if procfs.read_only(mounts, f"/proc/sys/{part}"))

    def modules(self, names: Collection[str]) -> Mapping[str, ModuleState]:
        states = procfs.proc_modules(self._text("proc/modules") or "", names)
        # The kernel returns the list a page at a time. If a module is removed meanwhile, the list can miss another
        # one, so missing names are queried individually.
        others = {name: self.module_state(name) for name in names if name not in states}
        return {**states, **{name: state for name, state in others.items() if state is not None}}

    def module_state(self, name: str) -> Optional[ModuleState]:
        text = self._text(f"sys/module/{name}/initstate")
        return None if text is None else procfs.module_initstate(text.strip())

    def read_sysctl(self, key: str) -> Reading:
        value = self._read_open(key) if self._through_fds else None
        if value is not None:
            return _canonical(value)
        try:
            return _read_file(self.sysctl_path(key))
        except FileNotFoundError:  # not the name of a sysctl
            return MISSING
        except OSError as error:
            return _unreadable(error)

    def _read_open(self, key: str) -> Optional[bytes]:
        """Return the value of a sysctl through its open descriptor, or None if it has to be read by its path."""
        file = self.fds.get(key)
        if file is None:
            return None
        try:
            return read_value(file.descriptor)
        except OSError as error:
            if error.errno not in _GONE:
                return None
        file = self.fds.reopen(key)
        try:
            return read_value(file.descriptor) if file else None
        except OSError:
            return None

    def write_sysctl(self, key: str, value: str) -> None:
        file = self.fds.get(key) if self._through_fds else None
        if file is not None:
            try:
                os.pwrite(file.descriptor, value.encode() + b"\n", 0)
            except OSError as error:
                if error.errno not in (*_GONE, errno.EBADF):  # EBADF: the descriptor is read-only
                    raise
            else:
                return
        _write_file(self.sysctl_path(key), value)

    def expand(self, patterns: Collection[str]) -> Matches:
        index = Patterns(sysctl_names.globs(pattern) or () for pattern in patterns)
        found: list[tuple[str, int]] = []
        errors: list[tuple[int, OSError]] = []
        for path, mask in index.expand(self._names, errors):
            try:
                if rootfs.is_file(self._live_root, _sysctl(path)):
                    found.append((sysctl_names.name(path), mask))
            except rootfs.UnreadableError as error:
                errors.append((mask, error))
        if errors:
            raise PartlyUnreadableError(*split(tuple(patterns), merge(found), errors))
        return Matches(patterns, merge(found))

    def _names(self, path: sysctl_names.Path) -> Collection[str]:
        """Return the names in a directory under /proc/sys, one character for a byte."""
        return [os.fsencode(name).decode("latin-1") for name in rootfs.names(self._live_root, _sysctl(path))]

    def is_interface(self, name: str) -> bool:
        if name in ("all", "default", "", ".", "..") or "/" in name:
            return False
        file = _file_name(sysctl_names.unescape_part(name))
        places = ("proc/sys/net/ipv4/conf", "sys/class/net")
        return any(rootfs.is_directory(self._live_root, f"{place}/{file}") for place in places)

    def is_device(self, name: str) -> Optional[bool]:
        """Return whether an interface belongs to a device instead of being virtual, or None if that is unknown."""
        place = f"sys/class/net/{_file_name(sysctl_names.unescape_part(name))}"
        exists = rootfs.is_directory(self._live_root, place)
        return rootfs.lexists(self._live_root, f"{place}/device") if exists else None

    def default_routes(self) -> Optional[Mapping[str, bool]]:
        """Return the interfaces with an IPv6 default route, and whether router advertisements set it; or None."""
        text = self._text("proc/net/ipv6_route", "latin-1")
        routes = None if text is None else procfs.ipv6_default_routes(text)
        return None if routes is None else {sysctl_names.escape_part(name): learnt for name, learnt in routes.items()}

    def read_parameter(self, name: str) -> Parameter:
        module, path = f"sys/module/{name.partition('.')[0]}", _parameter(name)
        try:
            users = len(rootfs.names(self._live_root, f"{module}/holders"))
            count = self._text(f"{module}/refcnt") or ""
            status = rootfs.status(self._live_root, path)  # the file can disappear with its module at any moment
        except OSError as error:
            return Parameter(_unreadable(error))
        writable = status is not None and bool(status.st_mode & 0o200)
        return Parameter(self._read(path), writable, max(users, values.integer(count.strip()) or 0))

    def write_parameter(self, name: str, value: str) -> None:
        _write_file(self.parameter_path(name), value)

    def parameter_path(self, name: str) -> str:
        """Return the file of MODULE.PARAMETER. Raises OSError if a symbolic link leads to it."""
        return self._value_path(_parameter(name))

    def load_module(self, name: str, options: Sequence[str] = ()) -> None:
        loader = self._loader
        if loader is None:
            if self._root != "/":
                raise LoadError(f"modules can be loaded only into the running kernel, not under {self._root}")
            loader = self._loader = Libkmod()
        started = time.time()
        try:
            loader.load(name, options)
        except LoadError as error:
            message = last_kernel_message(name, started) if self._root == "/" else ""
            if not message:
                raise
            raise LoadError(f"{error} ({message})", error.errno, error.built_for) from None

    def sysctl_path(self, key: str) -> str:
        """Return the file of a sysctl. Raises OSError if a symbolic link leads to it."""
        parts = sysctl_names.parts(key)
        if parts is None:
            raise FileNotFoundError(f"invalid sysctl name {key!r}")
        return self._value_path(_sysctl(parts))

    def _value_path(self, path: str) -> str:
        """Return the absolute path of a value, which is safe to open. Raises OSError if it contains a symbolic link."""
        # A tree can contain links; the kernel's /proc/sys and /sys/module have none in these paths.
        directory = os.path.dirname(path)
        if self._root != "/" and directory not in self._link_free:
            if os.path.realpath(os.path.join(self._live_root, directory)) != os.path.join(self._top, directory):
                raise PermissionError(0, f"a symbolic link leads /{path} out of the root")
            self._link_free.add(directory)
        return os.path.join(self._live_root, path)

    def _read(self, path: str) -> Reading:
        try:
            return _read_file(self._value_path(path))
        except OSError as error:
            return _unreadable(error)

    def _text(self, path: str, encoding: str = "utf-8") -> Optional[str]:
        top = self._live_root if path.startswith(("proc/", "sys/")) else self._root
        data = rootfs.content(top, path, _MAX_TEXT)
        return None if data is None else data.decode(encoding, "surrogateescape")


def _live_root(root: str) -> str:
    """Return the directory of /proc and /sys of a root's kernel, or one without content for an image."""
    if root == "/":
        return root
    from ipvsd.kernel.roots import classify_root  # a daemon for / does not need it

    return os.devnull if classify_root(root) is RootKind.FIRST_BOOT else root  # a file has nothing below it


def _is_read_only(directory: str) -> bool:
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except FileNotFoundError:
        return False


def _file_name(part: str) -> str:
    """Return a part of a sysctl's path, one character for a byte, as a file name."""
    return os.fsdecode(part.encode("latin-1"))


def _sysctl(path: sysctl_names.Path) -> str:
    return "/".join(("proc/sys", *map(_file_name, path)))


def _parameter(name: str) -> str:
    """Return the path of MODULE.PARAMETER under the root. Both are plain words (see `config/value_readers`)."""
    module, _, parameter = name.partition(".")
    return f"sys/module/{module}/parameters/{parameter}"


# The module or interface disappeared after the open. ENODEV is the errno of /sys.
_GONE = (errno.ENOENT, errno.ENODEV)


@functools.lru_cache(maxsize=256)
def _canonical(value: bytes) -> str:
    return sysctl_names.canonical(value.decode("utf-8", "surrogateescape"))


def _unreadable(error: OSError) -> Unreadable:
    return Unreadable(error.strerror or str(error), error.errno in TRANSIENT_ERRNOS)


def _read_file(path: str) -> Reading:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        return _unreadable(error)
    try:
        return _canonical(read_value(fd))
    except OSError as error:
        return MISSING if error.errno in _GONE else _unreadable(error)
    finally:
        os.close(fd)


def read_value(fd: int) -> bytes:
    """Return the value of an open sysctl or parameter as the kernel prints it, up to 64 KiB. Raises OSError."""
    raw = os.pread(fd, _FIRST_READ, 0)
    return raw if len(raw) < _FIRST_READ else os.pread(fd, _MAX_READ, 0)


def _write_file(path: str, value: str) -> None:
    # No O_CREAT, so that a misspelt key under another root fails as in /proc.
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode() + b"\n")
    finally:
        os.close(fd)
