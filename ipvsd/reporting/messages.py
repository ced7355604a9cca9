"""What a reconciliation is worth saying in the log: every change we made, every problem once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional

from ipvsd.decide import remedies
from ipvsd.decide.aggregate import collapsed
from ipvsd.decide.contention import Fight, Limit
from ipvsd.decide.health import harmless, listed, required, unreadable
from ipvsd.model.report import Repair, Writer
from ipvsd.model.types import (
    NOTHING,
    Action,
    Finding,
    LoadModule,
    ModuleFinding,
    Plan,
    SysctlFinding,
    SysctlVerdict,
    WriteSysctl,
)
from ipvsd.reconcile.reconciler import Reconciled


class Line(NamedTuple):
    """A line of the log, with the fields that the journal takes besides."""

    level: str
    text: str
    fields: Mapping[str, str] = NOTHING


# The kinds of events that other programs may look for; packaging/ipvsd.catalog explains each.
REPAIRED = "f6b144553caa44c493924f920e47f12c"
RELOADED = "d6009856219642509e41aba0c597726f"
FIGHT = "ee4467a255964b51bdc085af7980f148"
TABLE_LOST = "7f7ea6c4cf3e4156a1cf6dfb160cf654"
REFUSED = "140205c452e94ad5a94eff6b0e68c337"
PEACE = "39e679bd2a5a4738a420b10b2e03654d"

_EACH = 3  # loaded modules, and changes to the sysctls of one pattern or to one of them, that are told one by one


def told(plan: Plan) -> tuple[Finding, ...]:
    """Return the findings of a plan as they are told of: those of one pattern as one."""
    return (*plan.modules, *plan.parameters, *collapsed(plan.sysctls))


def narrate(
    before: Sequence[Finding],
    now: Sequence[Finding],
    done: Reconciled,
    repairs: Sequence[Repair],
    fights: Collection[str] = (),
) -> Iterator[Line]:
    """Yield the lines for a reconciliation; `before` are the findings last told of, `now` this one's (see `told_of`).

    Of what is fought over nothing is told but that (see `fought`).
    """
    yield from _changes(done, {repair.name: repair for repair in repairs}, fights, _changed(before, now))
    known = {finding.name: _said(finding) for finding in before}
    proved = {action.name for action in done.proved}
    unread: dict[str, list[Finding]] = {}
    again: list[Finding] = []
    for finding in now:
        if known.get(finding.name) == _said(finding) or finding.name in proved or finding.name in fights:
            continue
        if unreadable(finding):
            unread.setdefault(finding.evidence, []).append(finding)
        elif not finding.right:
            yield _problem(finding)
        elif finding.name in known and not _was_right(before, finding.name):
            again.append(finding)
    for evidence, findings in unread.items():
        yield from _together(findings, f"unreadable: {evidence} ({findings[0].remedy})", "warning", _problem)
    yield from _together(again, "are right again", "info", _right_again)


def _together(findings: Sequence[Finding], text: str, level: str, each: Callable[[Finding], Line]) -> Iterator[Line]:
    """Yield a line for each finding, or one for all: what keeps everything from being read is one event."""
    if len(findings) <= _EACH:
        yield from map(each, findings)
    else:
        yield Line(level, f"{listed([finding.name for finding in findings])} {text}")


def _right_again(finding: Finding) -> Line:
    return Line("info", f"{finding.name} is right again: {finding.evidence}")


def told_of(before: Sequence[Finding], done: Reconciled) -> tuple[Finding, ...]:
    """Return what is told of after a look, `before` being what was told of until then.

    A sysctl that was changed again while it was repaired is told of as before: it is looked at again in a moment.
    """
    soon = {action.name for action in done.unfinished if isinstance(action, WriteSysctl)}
    return (
        *(finding for finding in told(done.after) if finding.name not in soon),
        *(finding for finding in before if finding.name in soon),
    )


def _said(finding: Finding) -> tuple[object, str]:
    # How many of a pattern are right changes with every interface, how many use a module with every service.
    counts = not isinstance(finding, ModuleFinding) and (
        finding.members != (0, 0) or finding.verdict is SysctlVerdict.NEEDS_RELOAD
    )
    return finding.verdict, "" if counts else finding.evidence


def turned(actions: Sequence[Action], repairs: Sequence[Repair], fights: Collection[str] = ()) -> Iterator[Line]:
    """Yield the lines for drifts that were turned back between two looks; many of one thing are told as one."""
    told: Counter[str] = Counter()
    for action, repair in zip(actions, repairs):
        told[repair.name] += 1
        if told[repair.name] <= _EACH and repair.name not in fights:
            yield _repaired(action, repair)
    last = {repair.name: repair for repair in repairs}
    for name, times in told.items():
        if times > _EACH and name not in fights:
            yield Line("info", f"{name} drifted {times} times in all, last changed {last[name].by}, and was repaired")


def _repaired(action: Action, repair: Repair) -> Line:
    kind = {"MESSAGE_ID": RELOADED, "MODULE": action.module or action.name} if isinstance(action, LoadModule) else {}
    if isinstance(action, WriteSysctl):
        values = {"OLDVALUE": repair.before, "NEWVALUE": action.found, "OURVALUE": action.value}
        kind = {"MESSAGE_ID": REPAIRED, "SYSCTL": action.name, **values}
    attribution = {"ATTRIBUTION": repair.attribution.value}
    return Line("info", _change(action, repair), {**kind, **attribution, **_writer(repair.writer)})


def _writer(writer: Optional[Writer]) -> Mapping[str, str]:
    if writer is None:
        return {}
    known = {
        # Not OBJECT_PID: to that journald adds the command line, and more groups than root's read the journal.
        "WRITER_PID": str(writer.pid or ""),
        "OBJECT_COMM": writer.comm,
        "OBJECT_SYSTEMD_UNIT": writer.unit,
        "CONTAINER_ID_FULL": writer.container,
        "POD_UID": writer.pod,
    }
    return {name: value for name, value in known.items() if value}


def refused(name: str, value: str, writer: Writer, times: int) -> Line:
    """Return the line for writes of others that the kernel refused, of which this was the last."""
    often = f", {times} times" if times > 1 else ""
    text = f"{name} is guarded: writing '{value}' was refused to {writer}{often}"
    fields = {"MESSAGE_ID": REFUSED, "SYSCTL": name, "NEWVALUE": value, **_writer(writer)}
    return Line("warning", text, fields)


def fought(old: Mapping[str, Fight], new: Mapping[str, Fight], limit: Limit) -> Iterator[Line]:
    """Yield the lines for the fights that began and that ended."""
    for name in sorted(new.keys() - old.keys()):
        fight = new[name]
        then = "left to it for good" if fight.yielded else "from now on written at periodic looks only"
        text = f"{name} is contended: changed more than {limit.repairs} times in {limit.window:g} s"
        remedy = "" if fight.yielded else f" ({remedies.CONTENDED.format(fight.rival)})"
        fields = {"MESSAGE_ID": FIGHT, "SYSCTL": name, "RIVAL": fight.rival, "ATTRIBUTION": fight.attribution.value}
        yield Line("warning", f"{text}, last {fight.by}; {then}{remedy}", fields)
    for name in sorted(old.keys() - new.keys()):
        yield Line("info", f"{name} is contended no more", {"MESSAGE_ID": PEACE, "SYSCTL": name})


def _changed(before: Sequence[Finding], now: Sequence[Finding]) -> frozenset[str]:
    """Return the sysctls, or their patterns, of which another value is wanted than before."""
    was = {finding.name: finding.wanted for finding in before if isinstance(finding, SysctlFinding)}
    found = [finding for finding in now if isinstance(finding, SysctlFinding) and finding.name in was]
    return frozenset(
        finding.name
        for finding in found
        for old in [was[finding.name]]
        if (old.want, old.policy) != (finding.wanted.want, finding.wanted.policy)
    )


def _changes(
    done: Reconciled, repairs: Mapping[str, Repair], fights: Collection[str], changed: Collection[str]
) -> Iterator[Line]:
    groups = {finding.name: finding.wanted.group for finding in done.after.sysctls if finding.wanted.group}
    together: dict[str, list[Action]] = {}
    # A cold boot has dozens; one with parameters is told with them.
    fresh = [item for item in done.proved if _is_plain_load(item) and item.name not in repairs]
    fresh = fresh if len(fresh) > _EACH else []
    if fresh:
        names = [item.name for item in fresh]
        yield Line("info", f"loaded {len(names)} modules: {listed(names)}", {"MODULES": " ".join(names)})
    for action in (action for action in done.proved if action.name not in fights and action not in fresh):
        together.setdefault(groups.get(action.name, action.name), []).append(action)
    for name, actions in together.items():
        for action in actions[:_EACH]:
            repair = repairs.get(action.name)
            if repair:
                yield _repaired(action, repair)
            elif name in changed:
                yield Line("info", f"configuration changed: {action}")
            else:
                yield Line("info", _change(action, None))
        if len(actions) > _EACH:
            drifted = sum(action.name in repairs for action in actions)
            yield Line("info", f"wrote {len(actions)} sysctls of {name} in all, {drifted} of which had drifted")


def _is_plain_load(action: Action) -> bool:
    return isinstance(action, LoadModule) and not action.options


def _change(action: Action, repair: Optional[Repair]) -> str:
    how = ""
    if repair:
        done = "unloaded" if isinstance(action, LoadModule) else "changed"
        how = f"; {done} {repair.by}, repaired in {repair.seconds * 1000:.1f} ms"
    if isinstance(action, LoadModule):
        which = f"{action.module} for {action.name}" if action.module else action.name
        options = f" with {' '.join(action.options)}" if action.options else ""
        return f"loaded module {which}: found not loaded, wanted live{options}{how}"
    return f"wrote {action.name}: found '{action.found}', wanted '{action.value}'{how}"


def _problem(finding: Finding) -> Line:
    kind = "module" if isinstance(finding, ModuleFinding) else "sysctl"
    level = "info" if harmless(finding) else "warning"
    weight = "" if required(finding) else " (not required)"
    remedy = f" ({finding.remedy})" if finding.remedy and level == "warning" else ""
    return Line(level, f"{kind} {finding.name}{weight} {finding.verdict.value}: {finding.evidence}{remedy}")


def _was_right(before: Sequence[Finding], name: str) -> bool:
    return any(finding.name == name and finding.right for finding in before)
