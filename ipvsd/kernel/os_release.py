"""os-release(5): the distribution of a root. A shell can source the file, so a shell's rules apply."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ipvsd.kernel import shell_assignments
from ipvsd.runtime import rootfs

_FILES = ("etc/os-release", "usr/lib/os-release")


def read(root: str) -> Mapping[str, str]:
    """Return the variables of the first file that exists, even if it is empty. Raises rootfs.UnreadableError."""
    for file in _FILES:
        text = rootfs.text(root, file)
        if text is not None:
            return parse(text)
    return {}


def parse(text: str) -> Mapping[str, str]:
    """Return the variables whose values do not depend on a command or on the environment."""
    return {name: value.text for name, value in shell_assignments.parse(text).items() if value.certain}


def distribution(variables: Mapping[str, str]) -> str:
    """Return the ID, or an empty text if it is missing or invalid."""
    name = variables.get("ID", "")
    return name if re.match(r"[a-z0-9._-]+\Z", name) else ""
