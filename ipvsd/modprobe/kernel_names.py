"""Names of modules and releases of kernels, in the kernel's form."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Optional

_MODULE_NAME = re.compile(r"[A-Za-z0-9_-]{1,55}\Z")  # the kernel's MODULE_NAME_LEN is 56, including the NUL


def module_name(text: str) -> Optional[str]:
    """Return the name as the kernel reports it (`_` for `-`), or None if it is not a valid module name."""
    return text.replace("-", "_") if _MODULE_NAME.match(text) else None


def indexed_names(text: str, names: Collection[str]) -> frozenset[str]:
    """Return those of `names` whose file begins a line of a `modules.dep` or `modules.builtin`."""
    # Without the names, because the compilation of a longer pattern would delay the start.
    found = re.findall(r"^(?:[^:\n]*/)?([^:/.\n]+)\.ko(?:\.[a-z0-9]+)?(?::|\s*$)", text, re.MULTILINE)
    return frozenset(names).intersection(name.replace("-", "_") for name in found)


def kernel_version(release: str) -> tuple[int, int]:
    """Return (major, minor) of a release such as `6.1.0-50-cloud-amd64`, or (0, 0)."""
    match = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
