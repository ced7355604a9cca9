"""CHANGELOG.md, as Debian and as rpm want it."""

from __future__ import annotations

import calendar
import re
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass

_HEADING = re.compile(r"## \[(?P<version>[^]]+)\] - (?P<date>unreleased|\d{4}-\d\d-\d\d)")


@dataclass(frozen=True)
class Release:
    """One section. `date` is noon of its day in seconds since the epoch, or None; a change is one paragraph."""

    version: str
    date: int | None
    changes: tuple[str, ...]


def releases(text: str) -> tuple[Release, ...]:
    """Return the sections of a changelog, the newest first. Raises ValueError for what is none."""
    found = []
    for section in text.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        match = _HEADING.fullmatch(f"## {heading}")
        if not match:
            form = "'## [VERSION] - YYYY-MM-DD' or '## [VERSION] - unreleased'"
            raise ValueError(f"'## {heading}' has not the form {form}")
        day = match["date"]
        date = None if day == "unreleased" else calendar.timegm(time.strptime(f"{day} 12", "%Y-%m-%d %H"))
        found.append(Release(match["version"], date, tuple(_changes(body))))
    if not found:
        raise ValueError("it has no section that begins with '## ['")
    return tuple(found)


def _changes(body: str) -> Iterator[str]:
    kind = ""
    for block in re.split(r"\n(?=- |### |\n)", f"\n{body}"):
        line = " ".join(block.split())
        if line.startswith("### "):
            kind = line[4:]
        elif line.startswith("- "):
            yield f"{kind}: {_plain(line[2:])}"


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", markdown).replace("`", "")


def debian(found: tuple[Release, ...], maintainer: str, today: int) -> str:
    """Return debian/changelog; a section without a date is of `today`."""
    return "\n".join(
        f"ipvsd ({release.version}) unstable; urgency=medium\n\n"
        + "".join(_wrapped(change, "  * ", "    ") for change in release.changes)
        + f"\n -- {maintainer}  {_date('{day}, %d {month} %Y %H:%M:%S +0000', release.date or today)}\n"
        for release in found
    )


def rpm(found: tuple[Release, ...], maintainer: str, today: int) -> str:
    """Return what stands below %changelog; a section without a date is of `today`."""
    return "\n".join(
        f"* {_date('{day} {month} %d %Y', release.date or today)} {maintainer} - {release.version}-1\n"
        + "".join(_wrapped(change.replace("%", "%%"), "- ", "  ") for change in release.changes)
        for release in found
    )


def _wrapped(text: str, first: str, others: str) -> str:
    wrapper = textwrap.TextWrapper(
        78, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.fill(text) + "\n"


def _date(form: str, seconds: int) -> str:
    # %a and %b are those of the locale.
    when = time.gmtime(seconds)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[when.tm_wday]
    month = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()[when.tm_mon - 1]
    return time.strftime(form.format(day=day, month=month), when)
