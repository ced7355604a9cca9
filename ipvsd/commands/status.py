"""ipvsd status: what the running daemon last saw. Needs no root, no port, and no answer from the daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from ipvsd import printable, remedies, statusfile
from ipvsd.commands import text
from ipvsd.output import complain, say, say_json

_CODES = {"ready": 0, "degraded": 0, "failed": 1}


def run(root: str, output: str) -> int:
    """Exit 0 if everything required was right, 1 if not, 2 if there is no daemon or its look is too old."""
    document = statusfile.read(root)
    if document is None:
        how = f"no daemon runs below {root}; see '{remedies.below('ipvsd check', root)}'"
        how = "run: systemctl start ipvsd" if root == "/" else how
        complain(f"ipvsd: cannot read the daemon's status: there is none ({how})")
        return 2
    try:
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - document["boottime"]
        old = age > 2 * document["config"]["interval"]
        code = 2 if old else _CODES[document["state"]]
        how = " (run: systemctl status ipvsd)" if root == "/" else ""
        complaint = f"the daemon last looked {age:.0f} s ago{how}"
        if output == "json":
            errors = {"error": complaint, "errors": [complaint]} if old else {}
            say_json({**document, "age": round(age, 3), **errors})
        else:
            say(*_lines(printable.fields(document), age))
    except (KeyError, TypeError) as error:
        complain(f"ipvsd: cannot read the daemon's status: it lacks {error} (another version wrote it)")
        return 2
    if old:
        complain(f"ipvsd: {complaint}")
    return code


def _lines(document: Mapping[str, Any], age: float) -> list[str]:
    return [*text.summary(document), *_about(document, age), *text.findings(document), *_repairs(document)]


def _about(document: Mapping[str, Any], age: float) -> Iterator[str]:
    config = document["config"]
    yield f"looked {age:.0f} s ago; looks at least every {config['interval']:g} s"
    yield text.ipvs(document)
    yield from text.notes(document)
    yield from text.folded(f"configuration {config['hash']}: {', '.join(config['files']) or 'the defaults'}")
    by = [f"{item['name']} {item['lost']}" for item in document["sources"] if item.get("lost")]
    lost = f"; {document['lost']} events were lost ({', '.join(by)})" if by else ""
    yield f"writes to sysctls are seen by {document['backend']}{lost}"
    for item in document["contended"]:
        yield from text.folded(f"{item['name']} is contended {text.by(item, item['rival'])}", "33")
    for error in config["errors"]:
        yield from text.folded(f"refused: {error}", "31")
    for source in document["sources"]:
        if not source["up"]:
            yield from text.folded(f"source {source['name']} is down: {source['detail']}", "33")


def _repairs(document: Mapping[str, Any]) -> Iterator[str]:
    repairs = document["repairs"]
    if repairs:
        yield ""
        yield "LAST REPAIRS"
    for repair in repairs[-5:]:
        took = f"{repair['seconds'] * 1000:.0f} ms"
        line = f"{repair['time'][:19]}Z  {repair['name']}: {repair['found']} -> {repair['wanted']} in {took}"
        yield from text.indented(f"{line}, {text.by(repair, repair['who'])}", 2, 6)
