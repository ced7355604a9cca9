"""Log messages and journal fields for the changes. Every action and every problem is logged once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional, Union

from ipvsd.decide import remedies
from ipvsd.decide.health import required, shorten_names, tolerated, unreadable
from ipvsd.model.report import Repair, Writer
from ipvsd.model.types import NOTHING, Action, Finding, LoadModule, ModuleFinding, WriteSysctl
from ipvsd.model.value_texts import text_of
from ipvsd.reconcile.changes import (
    Applied,
    Change,
    ContentionEnded,
    ContentionStarted,
    ProblemAppeared,
    ProblemCleared,
    Repaired,
    VirtualServicesLost,
    WriteRefused,
    label,
)


class Line(NamedTuple):
    level: str
    text: str
    fields: Mapping[str, str] = NOTHING


# Message IDs for other programs. packaging/ipvsd.catalog explains each.
REPAIRED = "f6b144553caa44c493924f920e47f12c"
RELOADED = "d6009856219642509e41aba0c597726f"
CONTENTION_STARTED = "ee4467a255964b51bdc085af7980f148"
VIRTUAL_SERVICES_LOST = "7f7ea6c4cf3e4156a1cf6dfb160cf654"
REFUSED = "140205c452e94ad5a94eff6b0e68c337"
CONTENTION_ENDED = "39e679bd2a5a4738a420b10b2e03654d"

_EACH = 3  # separate lines, at most: for loaded modules, and for changes of one sysctl or one pattern


def describe(changes: Sequence[Change], contended: Collection[str] = ()) -> Iterator[Line]:
    """Yield the lines for the changes of a reconciliation; for a contended sysctl, only those about contention."""
    yield from _contention(changes)
    actions = [item for item in changes if isinstance(item, (Applied, Repaired)) and item.action.name not in contended]
    yield from _at_once([item for item in actions if isinstance(item, Repaired) and item.at_once])
    yield from _actions([item for item in actions if isinstance(item, Applied) or not item.at_once])
    yield from _problems([item.finding for item in changes if isinstance(item, ProblemAppeared)])
    again = [item.finding for item in changes if isinstance(item, ProblemCleared)]
    yield from _together(again, "are compliant again", "info", _compliant_again)
    for item in changes:
        if isinstance(item, VirtualServicesLost):
            yield Line("warning", item.detail, {"MESSAGE_ID": VIRTUAL_SERVICES_LOST})
        elif isinstance(item, WriteRefused):
            yield _refused(item)


def _problems(findings: Sequence[Finding]) -> Iterator[Line]:
    unread: dict[str, list[Finding]] = {}
    for finding in findings:
        if unreadable(finding):
            unread.setdefault(finding.evidence, []).append(finding)
        else:
            yield _problem(finding)
    for evidence, same in unread.items():
        yield from _together(same, f"are unreadable: {evidence} ({same[0].remedy})", "warning", _problem)


def _together(findings: Sequence[Finding], text: str, level: str, each: Callable[[Finding], Line]) -> Iterator[Line]:
    """Yield a line for each finding, or one for all if there are many, because they then have one cause."""
    if len(findings) <= _EACH:
        yield from map(each, findings)
    else:
        yield Line(level, f"{shorten_names([finding.name for finding in findings])} {text}")


def _compliant_again(finding: Finding) -> Line:
    return Line("info", f"{finding.name} is compliant again: {finding.evidence}")


def _at_once(repairs: Sequence[Repaired]) -> Iterator[Line]:
    """Yield the lines for repairs by events. Many repairs of one item are one line."""
    told: Counter[str] = Counter()
    for item in repairs:
        told[item.action.name] += 1
        if told[item.action.name] <= _EACH:
            yield _repaired(item.action, item.repair)
    last = {item.action.name: item.repair for item in repairs}
    for name, times in told.items():
        if times > _EACH:
            text = f"{name} drifted and was repaired {times} times; last changed {last[name].attribution_text}"
            yield Line("info", text)


def _repaired(action: Action, repair: Repair) -> Line:
    kind = {"MESSAGE_ID": RELOADED, "MODULE": action.module or action.name} if isinstance(action, LoadModule) else {}
    if isinstance(action, WriteSysctl):
        values = {"OLDVALUE": repair.before, "NEWVALUE": action.actual, "OURVALUE": action.value}
        kind = {"MESSAGE_ID": REPAIRED, "SYSCTL": action.name, **values}
    attribution = {"ATTRIBUTION": repair.attribution.value}
    return Line("info", _change(action, repair), {**kind, **attribution, **_writer(repair.writer)})


def _writer(writer: Optional[Writer]) -> Mapping[str, str]:
    if writer is None:
        return {}
    known = {
        # Not OBJECT_PID: journald would add the command line to it, and users other than root can read the journal.
        "WRITER_PID": str(writer.pid or ""),
        "OBJECT_COMM": writer.comm,
        "OBJECT_SYSTEMD_UNIT": writer.unit,
        "CONTAINER_ID_FULL": writer.container,
        "POD_UID": writer.pod,
    }
    return {name: value for name, value in known.items() if value}


def _refused(change: WriteRefused) -> Line:
    writes = "a write" if change.times == 1 else f"{change.times} writes"
    text = f"{change.name} is guarded: the kernel refused {writes} of '{change.value}' by {change.writer}"
    fields = {"MESSAGE_ID": REFUSED, "SYSCTL": change.name, "NEWVALUE": change.value, **_writer(change.writer)}
    return Line("warning", text, fields)


def _contention(changes: Sequence[Change]) -> Iterator[Line]:
    for change in changes:
        if isinstance(change, ContentionStarted):
            yield _contention_started(change)
        elif isinstance(change, ContentionEnded):
            fields = {"MESSAGE_ID": CONTENTION_ENDED, "SYSCTL": change.name}
            yield Line("info", f"{change.name} is no longer contended", fields)


def _contention_started(change: ContentionStarted) -> Line:
    name, contention, limit = change
    then = "leaves the sysctl to that program" if contention.yielded else "writes the sysctl only once per resync"
    text = f"{name} is contended: repaired more than {limit.repairs} times in {limit.window:g} s"
    remedy = "" if contention.yielded else f" ({remedies.CONTENDED.format(contention.conflicting_program)})"
    fields = {
        "MESSAGE_ID": CONTENTION_STARTED,
        "SYSCTL": name,
        "CONFLICTING_PROGRAM": contention.conflicting_program,
        "ATTRIBUTION": contention.attribution.value,
    }
    return Line("warning", f"{text}, last changed {contention.by}; ipvsd {then}{remedy}", fields)


def _actions(changes: Sequence[Union[Repaired, Applied]]) -> Iterator[Line]:
    # A cold boot loads dozens of modules. One with parameters has its own line.
    loads = [item for item in changes if isinstance(item, Applied) and isinstance(item.action, LoadModule)]
    fresh = [item for item in loads if isinstance(item.action, LoadModule) and not item.action.options]
    fresh = fresh if len(fresh) > _EACH else []
    if fresh:
        names = [item.action.name for item in fresh]
        yield Line("info", f"loaded {len(names)} modules: {shorten_names(names)}", {"MODULES": " ".join(names)})
    together: dict[str, list[Union[Repaired, Applied]]] = {}
    for item in changes:
        if item not in fresh:
            together.setdefault(label(item.item), []).append(item)
    for name, same in together.items():
        for item in same[:_EACH]:
            if isinstance(item, Repaired):
                yield _repaired(item.action, item.repair)
            elif item.reconfigured:
                yield Line("info", f"configuration changed: {item.action}")
            else:
                yield Line("info", _change(item.action, None))
        if len(same) > _EACH:
            drifted = sum(isinstance(item, Repaired) for item in same)
            yield Line("info", f"wrote {len(same)} sysctls that match {name}; {drifted} of them had drifted")


def _change(action: Action, repair: Optional[Repair]) -> str:
    how = ""
    if repair:
        done = "unloaded" if isinstance(action, LoadModule) else "changed"
        how = f"; {done} {repair.attribution_text}, repaired in {repair.seconds * 1000:.1f} ms"
    if isinstance(action, LoadModule):
        which = f"{action.module} for {action.name}" if action.module else action.name
        options = f" with {' '.join(action.options)}" if action.options else ""
        return f"loaded module {which}{options} (was unloaded){how}"
    return f"wrote {action.name}: '{action.value}' (was '{action.actual}'){how}"


def _problem(finding: Finding) -> Line:
    kind = "module" if isinstance(finding, ModuleFinding) else "sysctl"
    level = "info" if tolerated(finding) else "warning"
    optional = "" if required(finding) else " (optional)"
    remedy = f" ({finding.remedy})" if finding.remedy and level == "warning" else ""
    return Line(level, f"{kind} {finding.name}{optional}: {text_of(finding.verdict)}: {finding.evidence}{remedy}")
