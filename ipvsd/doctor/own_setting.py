"""The fix that changes ipvsd's own configuration, in the file whose setting takes effect."""

from __future__ import annotations

_MAIN = "/etc/ipvsd/ipvsd.yaml"


def written(text: str, origin: str = "") -> str:
    """Return the fix that writes a setting. `origin` is FILE:LINE of the present one, or anything else without one.

    A later file overrides an earlier one, so a line in another file could have no effect.
    """
    _, separator, line = origin.rpartition(":")
    place = f"instead of the setting in {origin}" if separator and line.isdecimal() else f"in {_MAIN}"
    return f"write '{text}' {place}, and run 'systemctl reload ipvsd'"
