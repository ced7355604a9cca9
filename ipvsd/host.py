"""The machine: the Host protocol, and LinuxHost, which with kmod and watch/ alone opens /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Optional, Protocol

from ipvsd import formats, sysctls
from ipvsd.kmod import Loader, LoadError, default_loader, kernel_words
from ipvsd.model import Kernel, Missing, ModuleState, Reading, Unreadable
from ipvsd.moduletree import Index, Obstacles

_MAX_READ = 1 << 16
_SIGNS = {
    "ip_vs": "proc/sys/net/ipv4/vs",
    "nf_conntrack": "proc/sys/net/netfilter/nf_conntrack_max",
    "br_netfilter": "proc/sys/net/bridge",
}


class Host(Protocol):
    """A kernel to look at and to act upon. What each promises is tested by one contract suite."""

    def kernel(self, names: Collection[str]) -> Kernel:
        """Return the running kernel, with what its module index says of `names`."""

    def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        """Return the kernel with all that can be found out about why `names` are not in it."""

    def modules(self, names: Collection[str]) -> Mapping[str, ModuleState]:
        """Return the state of those of `names` that are in the kernel as loaded modules."""

    def read_sysctl(self, key: str) -> Reading:
        """Return the value of a sysctl, white space normalised."""

    def write_sysctl(self, key: str, value: str) -> None:
        """Write a sysctl that exists. Raises OSError."""

    def load_module(self, name: str) -> None:
        """Load a module. Raises kmod.BlacklistedError or kmod.LoadError."""


class LinuxHost:
    """The kernel whose /proc, /sys and /lib/modules lie below `root`.

    Modules can be loaded only into the kernel that runs, so a `root` other than / needs a loader of its own.
    """

    def __init__(self, root: str = "/", loader: Optional[Loader] = None) -> None:
        self._root = root
        self._sysctls = os.path.join(root, "proc/sys")
        self._loader = loader
        self._inside: set[str] = set()
        self._index: Optional[tuple[str, Index]] = None
        self._obstacles = Obstacles(root)
        self._distribution = ""

    def kernel(self, names: Collection[str]) -> Kernel:
        release = (self._text("proc/sys/kernel/osrelease") or os.uname().release).strip()
        if self._index is None or self._index[0] != release:
            self._index = (release, Index(os.path.join(self._root, "lib/modules", release)))
            os_release = self._text("etc/os-release") or self._text("usr/lib/os-release") or ""
            self._distribution = formats.os_release_id(os_release)
        index = self._index[1].look(names)
        cpus = formats.cpu_count(self._text("sys/devices/system/cpu/online") or "") or os.cpu_count() or 1
        modular = os.path.exists(os.path.join(self._root, "proc/modules"))
        built_in = index.built_in if modular else index.built_in | self._functional(names)
        return Kernel(release, self._distribution, cpus, modular, index.readable, index.loadable, built_in)

    def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        return self._obstacles.explain(kernel, names)

    def _functional(self, names: Collection[str]) -> frozenset[str]:
        """Return those of `names` that show by their files in /proc that they are in the kernel.

        Where no module can be loaded and no modules.builtin was installed, nothing else tells.
        """
        return frozenset(
            name for name, path in _SIGNS.items() if name in names and os.path.exists(os.path.join(self._root, path))
        )

    def modules(self, names: Collection[str]) -> Mapping[str, ModuleState]:
        states = dict(formats.proc_modules(self._text("proc/modules") or "", names))
        # The kernel hands the list out a page at a time. When a module goes meanwhile, another one may
        # be passed over, so what is missing from the list is asked about by its name.
        for name in names:
            if name not in states:
                state = formats.module_initstate(self._text(f"sys/module/{name}/initstate") or "")
                if state is not None:
                    states[name] = state
        return states

    def read_sysctl(self, key: str) -> Reading:
        try:
            fd = os.open(self.sysctl_path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return Missing()
        except OSError as error:
            return Unreadable(error.strerror or str(error))
        try:
            return sysctls.canonical(os.read(fd, _MAX_READ).decode("utf-8", "replace"))
        except FileNotFoundError:  # its module went away after the open
            return Missing()
        except OSError as error:
            return Unreadable(error.strerror or str(error))
        finally:
            os.close(fd)

    def write_sysctl(self, key: str, value: str) -> None:
        # Never O_CREAT: below a fake root a misspelt key then fails as it does in /proc.
        fd = os.open(self.sysctl_path(key), os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode() + b"\n")
        finally:
            os.close(fd)

    def load_module(self, name: str) -> None:
        if self._loader is None:
            if self._root != "/":
                raise LoadError(f"modules can be loaded only into the running kernel, not below {self._root}")
            self._loader = default_loader()
        try:
            self._loader.load(name)
        except LoadError as error:
            said = kernel_words(name) if self._root == "/" else ""
            raise LoadError(f"{error} ({said})" if said else str(error), error.errno, error.made_for) from None

    def sysctl_path(self, key: str) -> str:
        """Return the file of a sysctl. Raises OSError if a symbolic link leads it out of /proc/sys."""
        parts = sysctls.parts(key)
        if parts is None:
            raise FileNotFoundError(f"{key!r} is no sysctl")
        path = os.path.join(self._sysctls, *parts)
        directory = os.path.dirname(path)
        if directory not in self._inside:
            top = os.path.realpath(self._sysctls)
            if os.path.realpath(directory) != os.path.join(top, *parts[:-1]):
                raise PermissionError(0, f"a symbolic link leads {key} out of /proc/sys")
            self._inside.add(directory)
        return path

    def _text(self, path: str) -> Optional[str]:
        try:
            with open(os.path.join(self._root, path), "rb") as file:
                return file.read().decode("utf-8", "replace")
        except OSError:
            return None
