"""The smallest module files that depmod accepts, in a tree that it has indexed."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def make(root: Path, release: str, modules: Mapping[str, Sequence[str]], built_in: Sequence[str] = ()) -> Path:
    """Create the module tree of a kernel below a root, and return it. `modules` maps names to dependencies.

    A dependency that begins with `alias:` is an alias of the module.
    """
    tree = root / "lib/modules" / release
    (tree / "kernel").mkdir(parents=True)
    for name, needs in modules.items():
        (tree / f"kernel/{name}.ko").write_bytes(_file(name.replace("-", "_"), release, needs))
    (tree / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in built_in))
    (tree / "modules.order").write_text("".join(f"kernel/{name}.ko\n" for name in modules))
    depmod = ["/usr/bin/env", "PATH=/usr/sbin:/sbin:/usr/bin", "depmod", "-b", str(root), release]
    subprocess.run(depmod, check=True, capture_output=True)
    return tree


def _file(name: str, release: str, needs: Sequence[str]) -> bytes:
    """Return an ELF64 file that contains only sections: .modinfo, and symbols for the module's dependencies."""
    aliases = [need[len("alias:") :] for need in needs if need.startswith("alias:")]
    others = [need for need in needs if not need.startswith("alias:")]
    said = [("license", "GPL"), *(("alias", alias) for alias in aliases), ("depends", ",".join(others)), ("name", name)]
    said.append(("vermagic", f"{release} SMP mod_unload "))
    information = b"".join(f"{key}={value}".encode() + b"\0" for key, value in said)
    names = b"\0.modinfo\0.shstrtab\0.symtab\0.strtab\0__ksymtab_strings\0"
    strings, symbols = b"\0", bytes(24)
    for need in others:
        symbols += struct.pack("<IBBHQQ", len(strings), 0x10, 0, 0, 0, 0)
        strings += f"symbol_of_{need}".encode() + b"\0"
    parts: list[tuple[int, bytes]] = []
    at = 64
    for data in (information, names, symbols, strings, f"symbol_of_{name}".encode() + b"\0"):
        at = (at + 7) // 8 * 8
        parts.append((at, data))
        at += len(data)
    table_at = (at + 7) // 8 * 8

    def section(title: int, kind: int, part: int, link: int = 0, info: int = 0, entry: int = 0) -> bytes:
        place, data = parts[part]
        return struct.pack("<IIQQQQIIQQ", title, kind, 0, 0, place, len(data), link, info, 8, entry)

    table = bytes(64) + section(1, 1, 0) + section(10, 3, 1) + section(20, 2, 2, 4, 1, 24)
    table += section(28, 3, 3) + section(36, 1, 4)
    image = bytearray(table_at) + table
    image[:16] = b"\x7fELF\2\1\1" + bytes(9)
    image[16:64] = struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 6, 2)
    for place, data in parts:
        image[place : place + len(data)] = data
    return bytes(image)
