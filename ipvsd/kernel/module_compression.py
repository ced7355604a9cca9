"""Compressed module files: the formats that this system's kmod can read, and the content of files.

kmod is built with or without each library. `kmod --version` prints the list, which is a text in the program's file.
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
_MAX_DICTIONARY = 1 << 27  # xz -9 requires 65 MiB to decompress (xz(1))


class CompressionSupport:
    """Determines which files kmod cannot read. It searches for kmod only if a file is compressed."""

    def __init__(self, root: str) -> None:
        self._root = root

    @functools.cached_property
    def _missing(self) -> frozenset[str]:
        return _missing_libraries(self._root)

    def unreadable(self, file: str) -> str:
        """Return the name of a file's compression if this system's kmod lacks it, otherwise an empty text."""
        suffix = file[file.rfind(".") :]
        return NAMES[suffix] if suffix in _LIBRARIES and _LIBRARIES[suffix] in self._missing else ""


def _missing_libraries(root: str) -> frozenset[str]:
    """Return the libraries that kmod was built without, as far as known. Raises rootfs.UnreadableError."""
    for place in (root, "/"):  # for a tree without kmod, this system's kmod creates the index (depmod -b)
        for path in _PROGRAMS:
            status = rootfs.status(place, path)
            if status is not None:
                return _read_missing_libraries(place, path, (status.st_mtime_ns, status.st_size, status.st_ino))
    return frozenset()


@functools.lru_cache(maxsize=4)
def _read_missing_libraries(root: str, path: str, _: tuple[int, int, int]) -> frozenset[str]:
    """Return the libraries that a kmod lacks. The key includes the file's stamp, because a search takes 80 ms."""
    found = _FEATURES.search(rootfs.content(root, path, _MAX_BYTES) or b"")
    return frozenset(re.findall(r"-(\w+)", found[0].decode("ascii"))) if found else frozenset()


def decompress(data: bytes, limit: int) -> Optional[bytes]:
    """Return the content of a file, or None if it is damaged, over `limit` bytes, or compressed with zstd."""
    if data.startswith(b"\x1f\x8b"):
        import zlib

        gunzip = zlib.decompressobj(zlib.MAX_WBITS | 16)  # a gzip header
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
