"""ipvsd status: the last report of the running daemon. It needs no root, no port, and no reply from the daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from ipvsd import __version__
from ipvsd.commands import formatting, kube_proxy_line
from ipvsd.commands.output import print_errors, print_json, print_lines
from ipvsd.decide import remedies
from ipvsd.decide.health import outdated
from ipvsd.model import printable
from ipvsd.model.value_texts import text_of
from ipvsd.state import status_file, stored_json

_CODES = {"ready": 0, "degraded": 0, "failed": 1}
_SLACK = 1.0  # seconds; the time in the file is rounded
_MAX_INTERVAL = 86_400.0  # maximum of `interval` in seconds (settings)
_RESTART = "run 'systemctl restart ipvsd'"


def run(root: str, output: str) -> int:
    """Exit 0 if all required items were compliant, 1 if not, 2 if there is no daemon or its report is too old."""
    try:
        document = status_file.read(root)
    except stored_json.UnusableError as error:
        return _unknown(f"{error} ({_RESTART})" if root == "/" else str(error))
    if document is None:
        remedy = f"no daemon is running for --root {root}; run '{remedies.for_root('ipvsd check', root)}'"
        remedy = "run 'systemctl start ipvsd'" if root == "/" else remedy
        return _unknown(f"the status file is missing ({remedy})")
    if document["state"] not in _CODES:
        return _unknown(f"the status file is damaged: invalid state {document['state']!a}")
    if not 0 < document["config"]["interval"] <= _MAX_INTERVAL:  # with a longer one, no report would be too old
        return _unknown("the status file is damaged: invalid config.interval")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - document["boottime"]
    if age < -_SLACK:
        problem = f"the status file is invalid: the time is {-age:.0f} s in the future"
        return _unknown(f"{problem} (the file is from another boot or another machine)")
    age = max(0.0, age)
    old = outdated(age, document["config"]["interval"])
    remedy = " (run 'systemctl status ipvsd')" if root == "/" else ""
    document["kube_proxy"] = kube_proxy_line.observe(root, kube_proxy_line.managed_in(document))
    complaint = f"outdated result: the last reconciliation was {age:.0f} s ago{remedy}"
    if output == "json":
        errors = {"error": complaint, "errors": [complaint]} if old else {}
        print_json({**document, "age": round(age, 3), **errors})
    else:
        shown = printable.clean_document(document)
        print_lines(*formatting.summary(shown), *_about(shown, age), *formatting.findings(shown), *_repairs(shown))
    if document.get("version") != __version__:
        mismatch = f"the daemon is version {document.get('version', 'unknown')}, this command is version {__version__}"
        print_errors(f"ipvsd: version mismatch: {mismatch} ({_RESTART})")
    if old:
        print_errors(f"ipvsd: {complaint}")
    return 2 if old else _CODES[document["state"]]


def _unknown(reason: str) -> int:
    print_errors(f"ipvsd: cannot read the daemon's status: {reason}")
    return 2


def _about(document: Mapping[str, Any], age: float) -> Iterator[str]:
    config = document["config"]
    yield f"last reconciliation {age:.0f} s ago; resync every {config['interval']:g} s"
    yield formatting.ipvs(document)
    yield from filter(None, [kube_proxy_line.text(document["kube_proxy"])])
    yield from formatting.notes(document)
    yield from formatting.folded(f"configuration {config['hash']}: {', '.join(config['files']) or 'built-in defaults'}")
    losing = (item for item in document["sources"] if item.get("events_lost"))
    lost_by_source = [f"{item['name']} {item['events_lost']}" for item in losing]
    lost = f"; {document['events_lost']} events lost ({', '.join(lost_by_source)})" if lost_by_source else ""
    yield from formatting.folded(f"watch backend: {document['backend']}{lost}")
    for item in document["contended"]:
        by = formatting.describe_attribution(item, item["conflicting_program"])
        yield from formatting.folded(f"{item['name']} is contended: changed {by}", "33")
    for failure in document["failures"]:
        yield from formatting.folded(f"ipvsd cannot {text_of(failure['operation'])}: {failure['error']}", "33")
    for error in config["errors"]:
        yield from formatting.folded(f"invalid configuration: {error}", "31")
    for source in document["sources"]:
        if not source["up"]:
            yield from formatting.folded(f"source {source['name']} is down: {source['detail']}", "33")


def _repairs(document: Mapping[str, Any]) -> Iterator[str]:
    repairs = document["repairs"]
    if repairs:
        yield ""
        yield "LAST REPAIRS"
    for repair in repairs[-5:]:
        by = formatting.describe_attribution(repair, repair["writer_text"])
        change = f"{repair['actual']} -> {repair['desired']} in {repair['seconds'] * 1000:.0f} ms, {by}"
        yield from formatting.indented(f"{repair['time'][:19]}Z  {repair['name']}: {change}", 2, 6)
