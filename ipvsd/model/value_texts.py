"""The text for people beside each machine-readable value: verdicts, programs, operations and needs; lists of names."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Union

# Every other value reads well with spaces for its underscores.
_TEXTS: Mapping[str, str] = {
    # verdicts
    "vermagic_mismatch": "built for a different kernel",
    "needs_module_reload": "needs a module reload",
    # needs
    "if_shipped": "if the kernel has it",
    # programs that apply settings
    "systemd_sysctl": "systemd-sysctl",
    "sysctl_system": "sysctl --system",
    "tuned": "TuneD",
    "tuned_reapply_sysctl": "TuneD's reapply_sysctl",
    "systemd_networkd": "systemd-networkd",
    "systemd_modules_load": "systemd-modules-load",
    "network_manager": "NetworkManager",
    # operations of ipvsd itself
    "listen": "listen on the addresses in 'web.listen'",
    "load_web_configuration": "load the web configuration file",
    "store_configuration": "store the last good configuration",
    "write_status": "write the status file",
    "write_history": "write the history",
}


def text_of(value: Union[str, enum.Enum]) -> str:
    """Return the text of a value, or of a text that another version of ipvsd wrote as a value."""
    key = value if isinstance(value, str) else str(value.value)
    return _TEXTS.get(key) or key.replace("_", " ")


def listed(names: Sequence[str], most: int) -> str:
    """Return the first `most` names, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
