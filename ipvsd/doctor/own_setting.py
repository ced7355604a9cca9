"""The fix that changes ipvsd's own configuration, in the file whose setting takes effect."""

from __future__ import annotations

_MAIN = "/etc/ipvsd/ipvsd.yaml"


def written(text: str, origin: str = "") -> str:
    """Return the fix that writes a setting. `origin` is FILE:LINE of the present one, or anything else without one.

    A later file overrides an earlier one, so a line in another file could have no effect.
    """
    where = f"instead of the setting in {origin}" if _is_place(origin) else f"in {_MAIN}"
    return f"write '{text}' {where}, and run 'systemctl reload ipvsd'"


def place(origin: str) -> str:
    """Return the FILE:LINE of a present setting, or the file for a new one."""
    return origin if _is_place(origin) else _MAIN


def _is_place(origin: str) -> bool:
    _, separator, line = origin.rpartition(":")
    return bool(separator) and line.isdecimal()
