"""Minimal kernel modules: enough ELF for depmod to index them, compressed as in distributions."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Sequence


def module(name: str, needs: Sequence[str] = (), info: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return a module that exports one symbol, and imports that of each module that it depends on."""
    facts = [("license", "GPL"), ("depends", ",".join(needs)), ("name", name), *info, ("vermagic", "0 SMP mod_unload ")]
    modinfo = b"".join(f"{key}={value}".encode() + b"\0" for key, value in facts)
    names = b"\0.modinfo\0.shstrtab\0.symtab\0.strtab\0__ksymtab_strings\0"
    strings, symbols = b"\0", bytes(24)
    for needed in needs:
        symbols += struct.pack("<IBBHQQ", len(strings), 0x10, 0, 0, 0, 0)
        strings += f"symbol_of_{needed}\0".encode()
    sections = [
        (1, 1, modinfo, 0, 0, 0), (10, 3, names, 0, 0, 0), (20, 2, symbols, 4, 1, 24), (28, 3, strings, 0, 0, 0),
        (36, 1, f"symbol_of_{name}\0".encode(), 0, 0, 0),
    ]  # fmt: skip
    body, table = b"", bytes(64)
    for title, kind, data, link, first, size in sections:
        body += bytes(-len(body) % 8)
        table += struct.pack("<IIQQQQIIQQ", title, kind, 0, 0, 64 + len(body), len(data), link, first, 8, size)
        body += data
    body += bytes(-len(body) % 8)
    ident = b"\x7fELF\2\1\1" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 6, 2)
    return header + body + table


def packed(data: bytes, suffix: str) -> bytes:
    """Return the file of a module with a suffix of `.ko`, `.ko.gz`, `.ko.xz` and `.ko.zst`."""
    if suffix.endswith(".gz"):
        return gzip.compress(data, 1, mtime=0)
    if suffix.endswith(".xz"):
        return lzma.compress(data, preset=0)
    if suffix.endswith(".zst"):
        # One frame with its size, and one uncompressed block (RFC 8878).
        block = struct.pack("<I", len(data) << 3 | 1)[:3]
        return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + block + data
    return data
