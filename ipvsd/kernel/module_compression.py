"""Compressed module files: what this system's kmod can read, and their content.

kmod is built with or without each library, and its depmod leaves out of the index what it cannot read. The program
says so itself (`kmod --version`), by a text that stands in its file: so that an image can be asked, too.
"""

from __future__ import annotations

import functools
import re
from typing import Optional

from ipvsd.runtime import rootfs

_PROGRAMS = ("usr/bin/kmod", "bin/kmod", "usr/sbin/kmod", "sbin/kmod", "usr/sbin/modprobe", "sbin/modprobe")
_LIBRARIES = {".gz": "ZLIB", ".xz": "XZ", ".zst": "ZSTD"}
NAMES = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
_FEATURES = re.compile(rb"(?:[+-](?:ZSTD|XZ|ZLIB|LIBCRYPTO|OPENSSL|EXPERIMENTAL)[ \0]){2,}")
_MAX_BYTES = 1 << 24
_MAX_DICTIONARY = 1 << 27  # xz -9 asks for 65 MiB to unpack (xz(1))


class CompressionSupport:
    """Tells which files kmod cannot read; it is looked for only when a file is compressed."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._missing: Optional[frozenset[str]] = None

    def unreadable(self, file: str) -> str:
        """Return the name of a file's compression if this system's kmod lacks it, else an empty text."""
        suffix = file[file.rfind(".") :]
        if suffix not in _LIBRARIES:
            return ""
        if self._missing is None:
            self._missing = _missing_libraries(self._root)
        return NAMES[suffix] if _LIBRARIES[suffix] in self._missing else ""


def _missing_libraries(root: str) -> frozenset[str]:
    """Return the libraries that kmod says it was built without; none if there is no kmod, or if it does not say.

    A tree without any kmod is indexed by the one of this system (depmod -b). Raises rootfs.UnreadableError.
    """
    for place in (root, "/"):
        for path in _PROGRAMS:
            status = rootfs.status(place, path)
            if status is not None:
                return _read_missing_libraries(place, path, (status.st_mtime_ns, status.st_size, status.st_ino))
    return frozenset()


@functools.lru_cache(maxsize=4)
def _read_missing_libraries(root: str, path: str, _: tuple[int, int, int]) -> frozenset[str]:
    """Return what a kmod lacks, by its file, which is read again when it has changed: a look through it takes 80 ms."""
    found = _FEATURES.search(rootfs.content(root, path, _MAX_BYTES) or b"")
    return frozenset(re.findall(r"-(\w+)", found[0].decode("ascii"))) if found else frozenset()


def decompress(data: bytes, limit: int) -> Optional[bytes]:
    """Return the content of a file that may be compressed, and that takes no more than `limit` bytes, packed or not.

    None if it cannot be had: it is damaged, or larger, or of zstd.
    """
    if data.startswith(b"\x1f\x8b"):
        import zlib

        gunzip = zlib.decompressobj(zlib.MAX_WBITS | 16)  # with the header of gzip
        try:
            found = gunzip.decompress(data, limit)
        except zlib.error:
            return None
        return found if gunzip.eof else None
    if data.startswith(b"\xfd7zXZ\0"):
        import lzma

        try:
            unxz = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_DICTIONARY)
            found = unxz.decompress(data, limit)
        except (lzma.LZMAError, EOFError):
            return None
        return found if unxz.eof else None
    return None if data.startswith(b"\x28\xb5\x2f\xfd") else data
