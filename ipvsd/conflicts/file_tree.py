"""Files under a root, read once and limited in size. Links in an image never lead outside."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Optional

from ipvsd.kernel.roots import classify_root
from ipvsd.model.types import RootKind
from ipvsd.runtime import rootfs
from ipvsd.sysctl import globs

# A file in an earlier directory masks files of the same name in later ones, as in sysctl.d(5).
PLACES = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
_ADMINISTRATORS = ("etc/", "run/")
_UNITS = tuple(f"{place}/systemd/system" for place in PLACES)


class FileTree:
    """One root at one moment. Paths are relative to it. `known` are texts that replace the content of some files."""

    def __init__(self, root: str, known: Mapping[str, str] = {}) -> None:
        self.root = root
        self._texts: dict[str, Optional[str]] = dict(known)
        self.unreadable_files: dict[str, str] = {}  # the existing ones, each with the reason

    def shown(self, path: str) -> str:
        return os.path.join(self.root, path)

    def read(self, path: str) -> Optional[str]:
        if path not in self._texts:
            try:
                self._texts[path] = rootfs.read(self.root, path).decode("utf-8", "surrogateescape")
            except (FileNotFoundError, NotADirectoryError, rootfs.IrregularError):
                self._texts[path] = None
            except OSError as error:
                self._texts[path] = None
                self.unreadable_files[self.shown(path)] = error.strerror or str(error)
        return self._texts[path]

    def names(self, directory: str) -> Collection[str]:
        try:
            return rootfs.listing(self.root, directory)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            self.unreadable_files[self.shown(directory)] = error.strerror or str(error)
            return ()

    def merged(self, directories: Collection[str], *suffixes: str, hidden: bool = False) -> list[str]:
        """Return the files of several directories, sorted by name. Earlier directories mask files of later ones.

        Only names with one of the suffixes count, `.conf` by default, and with a leading dot only if `hidden`.
        """
        chosen: dict[str, str] = {}
        for directory in directories:
            for name in self.names(directory):
                if name.endswith(suffixes or ".conf") and (hidden or not name.startswith(".")):
                    chosen.setdefault(name, os.path.join(directory, name))
        return [chosen[name] for name in sorted(chosen, key=os.fsencode)]

    def first(self, paths: Collection[str]) -> Optional[str]:
        """Return the first path of a file, which can be empty or masked."""
        return next((path for path in paths if self.read(path) is not None or self.is_masked(path)), None)

    def is_masked(self, path: str) -> bool:
        """Return whether a path is a link to /dev/null, which programs read as an empty file."""
        return self.links_to(path, "/dev/null")

    def links_to(self, path: str, target: str) -> bool:
        """Return whether a path is a link to an absolute path in the tree, which need not exist."""
        stored = self._link(path)
        return stored is not None and os.path.normpath(os.path.join("/", path, "..", stored)) == target

    def enabled(self, unit: str) -> bool:
        """Return whether systemd starts a unit at boot: a unit wants it, or a preset enables it at a first boot."""
        if self.masked(unit):
            return False
        wanting: dict[str, str] = {}
        for place in _UNITS:
            for name in self.names(place):
                if name.endswith((".wants", ".requires")) and unit in self.names(os.path.join(place, name)):
                    wanting.setdefault(name, f"{place}/{name}/{unit}")
        # A link to /dev/null masks the dependency in later directories.
        return any(not self.is_masked(path) for path in wanting.values()) or self._preset(unit)

    def _preset(self, unit: str) -> bool:
        """Return whether the first boot of an image enables a unit (systemd.preset(5)). Without a rule, it does."""
        # An empty /etc/machine-id does not indicate a first boot (machine-id(5)).
        if self.read("etc/machine-id") not in (None, "uninitialized\n", "uninitialized"):
            return False
        file = self.first([f"{place}/{unit}" for place in _UNITS])
        if file is None or classify_root(self.root) is not RootKind.FIRST_BOOT:
            return False
        for preset in self.merged([f"{place}/systemd/system-preset" for place in PLACES], ".preset"):
            for line in (self.read(preset) or "").splitlines():
                words = line.split()
                if len(words) > 1 and words[0] in ("enable", "disable") and globs.matches(words[1], unit):
                    return words[0] == "enable"
        return "[Install]" in (self.read(file) or "").split()

    def masked(self, unit: str) -> bool:
        """Return whether the first file of a unit masks it: a link to /dev/null, or an empty file of an administrator.

        An empty file in another directory is a placeholder of a reduced tree: packages contain no empty units.
        """
        file = self.first([f"{place}/{unit}" for place in _UNITS])
        if file is None or self.is_masked(file):
            return file is not None
        return file.startswith(_ADMINISTRATORS) and self._link(file) is None and not self.read(file)

    def _link(self, path: str) -> Optional[str]:
        try:
            return rootfs.read_link(self.root, path)
        except rootfs.UnreadableError as error:
            self.unreadable_files[self.shown(path)] = error.strerror or str(error)
            return None
