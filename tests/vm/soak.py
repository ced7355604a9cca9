"""Disturb one node in many ways at the same time, and account for every drift: `make soak`.

`python3 -m tests.vm.soak SECONDS [--seed NUMBER]` disturbs a machine with two processors for half of the time, and
one with a single processor, which it also suspends, for the other half. It prints a report of each. It fails unless
both accounts balance, and memory and descriptors do not grow.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from tests.vm.account import (
    FORWARD,
    LIMIT,
    Account,
    Change,
    Event,
    Injected,
    Modules,
    Period,
    balance,
    balance_modules,
    is_contended,
    is_of_interface,
)
from tests.vm.image import chosen
from tests.vm.machine import BenchError, Machine
from tests.vm.node import EXPECTED, Node

SCRIPT = Path(__file__).parent / "guest" / "soak.py"
FIGHT, PEACE = "ee4467a255964b51bdc085af7980f148", "39e679bd2a5a4738a420b10b2e03654d"
PATTERN = "net.ipv4.conf.*.forwarding"
DROP_IN = "/etc/ipvsd/conf.d/soak.yaml"
SEED = 1
ENDED = "the soak test has ended"
RESTARTED = -513  # ERESTARTNOINTR
RESULTS = ("/root/soak.json", "/root/soak.trace")  # in the machine: the script's record, and the kernel's trace
_LINE = re.compile(r"\s*(.{1,16})-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (\w+): (.*)")
_FIELD = re.compile(r'(\w+)="?([^" ]*)"?')

Record = tuple[float, int, str, Sequence[Any]]  # of the trace: time, process, event, and its fields
# It starts a process for each interface, which is most of the load of an emulated machine.
UDEV = "systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service"
# Added together, a third of them with a peer. The second number is for long runs on two processors.
INTERFACES, MORE_INTERFACES = 300, 1000
PROCESSORS = (2, 1)  # of the machines
LATER = 300.0  # seconds by which a round may be late
MB = 1e6
# From the end of the first round to that of the last. A reconciliation of thousands of sysctls uses memory that the
# allocators of Python and the C library keep in part. That part depends on other allocations in between.
GROWTH = 4 * MB
LINES = (
    *EXPECTED,
    r"\S+ is contended: repaired more than \d+ times in 60 s, last changed (probably )?by ",
    r"\S+ is no longer contended",
    r"sysctl \S+( \(optional\))?: (contended|noncompliant|pending|unsupported): ",
    r"wrote \d+ sysctls that match ",
    r"configuration changed: ",
    r"cannot use the configuration:$",
    r"ipvsd keeps using the previous configuration$",
    r"cannot read the configuration: \S+: a program has the file open for writing",
    rf"{re.escape(DROP_IN)}:\d+: ",
    r"cannot write the (status file|history): .*No space left on device",
    r"ipvsd can write the (status file|history) again$",
    r"module \S+( \(optional\))?: (loading|unloading|loadable|load failed): ",
    r"\S+( and|,) .* are compliant again",
)


class Evidence(NamedTuple):
    """A run of so many seconds: the result of the script in the machine, and ipvsd's metrics, status and log after it.

    `faults` are those that were found so far.
    """

    seed: int
    seconds: float
    told: Mapping[str, Any]
    metrics: Mapping[str, float]
    document: Mapping[str, Any]
    entries: Sequence[Mapping[str, Any]]
    faults: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """The result of a run. `faults` has a line for each fault.

    `writes` are the kernel's writes, by what ipvsd received of them. `counted` are ipvsd's counts of repairs and
    loads after drifts.
    """

    account: Account
    modules: Modules
    periods: Sequence[Period]
    writes: Mapping[str, int]
    lost: Mapping[str, int]
    counted: tuple[int, int]
    faults: tuple[str, ...]


def boot_and_run(
    processors: int, seconds: float, seed: int = SEED, say: Callable[[str], None] = lambda _: None
) -> Evidence:
    """Disturb a node on a new machine for so many seconds. Raises BenchError if the script fails."""
    with Machine(chosen(), cpus=processors) as machine:
        node = Node(machine)
        machine.booted()
        node.install()
        return run(node, seconds, seed, say)


def run(node: Node, seconds: float, seed: int = SEED, say: Callable[[str], None] = lambda _: None) -> Evidence:
    """Disturb the node for so many seconds. Raises BenchError if the script fails."""
    node.start()
    node.until(node.right, "the node right")
    node.ipvs_answer()
    node.get("/metrics")
    pid, begun = node.show("MainPID"), _monotonic(node)
    node.run(f"systemctl stop {UDEV}")
    try:
        told = _soak(node, seconds, seed, say)
        faults = [] if node.show("MainPID") == pid else ["the daemon is another process"]
        faults += [] if node.show("NRestarts") == "0" else [f"systemd started it {node.show('NRestarts')} times again"]
        entries = [entry for entry in node.entries(f"_PID={pid}") if _at(entry) >= begun]
        return Evidence(seed, seconds, told, node.metrics(), node.status(), entries, faults)
    finally:
        # Events that ipvsd lost here must not count in other tests on this machine.
        undo = f"systemctl stop soak; rm -f {DROP_IN}* /run/soak.full; systemctl restart ipvsd; systemctl start {UDEV}"
        node.run(undo, check=False)


def _soak(node: Node, seconds: float, seed: int, say: Callable[[str], None]) -> Mapping[str, Any]:
    """Run the script, and return its result.

    Its output uses the console, because the agent's channel loses data when the machine is suspended.
    """
    node.machine.put(SCRIPT.read_bytes(), "/root/soak.py")
    many = seconds >= 600 and node.run("nproc").out.strip() != "1"
    number = MORE_INTERFACES if many else INTERFACES
    script = f"python3 -u /root/soak.py {seconds} {seed} {number} {' '.join(RESULTS)}; echo {ENDED}"
    before = len(node.machine.console())
    node.run(f"rm -f {' '.join(RESULTS)}; systemd-run -q --unit=soak sh -c 'exec >/dev/ttyS0 2>&1; {script}'")
    shown, round_limit = 0, max(60.0, seconds / 20) + LATER
    deadline = time.monotonic() + round_limit
    while time.monotonic() < deadline:
        time.sleep(1)
        lines = node.machine.console()[before:].splitlines()
        for line in lines[shown:-1]:
            if line.startswith("round "):
                say(line)
                deadline = time.monotonic() + round_limit
        shown = max(shown, len(lines) - 1)
        if ENDED in lines:
            record, trace = (_read(node, path) for path in RESULTS)
            if not record:
                last = node.run("journalctl --sync; journalctl -q -b -u ipvsd -n 40; journalctl -q -k -n 20").out
                raise BenchError("the disturbances failed:\n" + "\n".join(lines) + f"\n{last}")
            return {**json.loads(record), "trace": list(parse(trace.decode(errors="replace").splitlines()))}
    raise BenchError(f"no round ended in {round_limit:.0f} s; {node.machine.registers()}\n" + "\n".join(lines))


def _read(node: Node, path: str) -> bytes:
    """Return a file of the machine, compressed meanwhile because the agent is slow, or nothing if there is none."""
    return gzip.decompress(base64.b64decode(node.run(f"gzip -c {path} | base64 -w 0", timeout=600, check=False).out))


def parse(lines: Iterable[str]) -> Iterator[Record]:
    """Yield the records of the kernel's trace."""
    for line in lines:
        found = _LINE.match(line)
        if found:
            yield float(found[3]), int(found[2]), found[4], _fields(found[4], found[5])


def _fields(event: str, text: str) -> Sequence[Any]:
    found = dict(_FIELD.findall(text))
    if event == "write":
        value = int(found["value"], 16).to_bytes(8, "little").partition(b"\0")[0]
        return found["dir"], found["name"], value.decode("latin-1").strip()
    if event in ("wrote", "told", "queued"):
        return (int(found["ret"]),)
    return (text.split(maxsplit=1)[0],)


def _monotonic(node: Node) -> float:
    return float(node.run("python3 -c 'import time; print(time.monotonic())'").out)


def _at(entry: Mapping[str, Any]) -> float:
    return int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6


# --- results ----------------------------------------------------------------------------


def judge(evidence: Evidence) -> Outcome:
    told, document, entries = evidence.told, evidence.document, evidence.entries
    ours, names = told["pid"], told["sysctls"]
    begun = list(_writes(told["trace"], names))
    written = [write for write in begun if write.result >= 0]
    restarted = {write.key for write in begun if write.result == RESTARTED}
    periods = _periods(entries)
    events = [Event(write.at, write.begun, write.key, write.value, write.pid == ours) for write in written]
    events += [Event(at, at, key, "", ours=False, gone=True) for key, at in told["gone"]]
    repaired = [(item["name"], item["actual"]) for item in told["history"] if item["actual"] != "unloaded"]
    unread = [(begun - LIMIT, ended) for begun, ended in told["unread"]]  # a line follows the repair
    account = balance([Injected(*row) for row in told["injected"]], events, repaired, periods, restarted, unread)
    changes = list(_changes(told["trace"], ours, {item["name"] for item in document["modules"]}))
    modules = balance_modules(changes)
    lost = {item["name"]: item["events_lost"] for item in document["sources"] if item["events_lost"] is not None}
    counted = [_total(evidence.metrics, name) for name in ("ipvsd_sysctl_repairs", "ipvsd_module_unloads")]
    faults = (
        *evidence.faults,
        *account.unexplained,
        *modules.unexplained,
        *_miscounted(evidence.metrics, [name for name, _ in repaired], written, told),
        *_misloaded(evidence.metrics, changes),
        *_unheard(written, ours, periods, told),
        *_lost(told, lost),
        *_grown(told["quiet"]),
        *_logged(entries),
        *_left(told, document),
        *told["notes"],
    )
    heard = Counter("of ipvsd" if write.pid == ours else write.heard for write in written)
    heard["again"] = sum(write.result == RESTARTED for write in begun)
    return Outcome(account, modules, periods, heard, lost, (counted[0], counted[1]), faults)


class Write(NamedTuple):
    """A write to a sysctl from its beginning to its end, `at`, with the kernel's result.

    `heard` is `told` if ipvsd received it, `untold` if not, and `lost` if the ring was full.
    """

    at: float
    begun: float
    pid: int
    key: str
    value: str
    heard: str
    result: int


def _writes(trace: Sequence[Any], names: Sequence[str]) -> Iterator[Write]:
    """Yield each write to one of these sysctls, or to that of an interface, the last one first."""
    known = {tuple(name.split(".")[-2:]): name for name in names}
    answers: dict[int, int] = {}
    results: dict[int, tuple[float, int]] = {}
    for at, pid, kind, found in reversed(trace):
        if kind == "wrote":
            results[pid] = at, found[0]
        elif kind == "told":  # the program runs within the same call
            answers[pid] = found[0]
        elif kind == "write":
            answer = answers.pop(pid, None)
            ended, result = results.pop(pid, (at, 0))
            place, name, value = found
            key = known.get((place, name))
            if key is None and name == "forwarding":
                key = f"net.ipv4.conf.{place}.forwarding"
            if key:
                heard = "untold" if answer is None else "lost" if answer else "told"
                yield Write(ended, at, pid, key, value, heard, result)


def _changes(trace: Sequence[Any], ours: int, wanted: Collection[str]) -> Iterator[Change]:
    for at, pid, kind, found in trace:
        if kind in ("module_load", "module_free") and found[0] in wanted:
            yield Change(at, found[0], pid == ours, kind == "module_free")


def _periods(entries: Sequence[Mapping[str, Any]]) -> Sequence[Period]:
    """Return the periods in which the log reports sysctls as contended."""
    begun: dict[str, float] = {}
    found = []
    for entry in entries:
        if entry.get("MESSAGE_ID") == FIGHT:
            begun[entry["SYSCTL"]] = _at(entry)
        elif entry.get("MESSAGE_ID") == PEACE:
            found.append(Period(entry["SYSCTL"], begun.pop(entry["SYSCTL"], 0.0), _at(entry)))
    return [*found, *(Period(key, at, float("inf")) for key, at in begun.items())]


def _total(metrics: Mapping[str, float], name: str) -> int:
    return int(sum(value for sample, value in metrics.items() if sample.startswith(f"{name}_total")))


def _miscounted(
    metrics: Mapping[str, float], repaired: Sequence[str], written: Sequence[Write], told: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the sysctls whose repairs in the metrics differ from those in the history or the kernel's trace.

    Of many simultaneous repairs, the history keeps only the last. Then the number of ipvsd's writes in the trace is
    the limit.
    """
    kept = Counter(map(_label, repaired))
    writes = Counter(_label(write.key) for write in written if write.pid == told["pid"])
    for name, value in _counts(metrics, "sysctl_repairs", "sysctl"):
        if kept[name] > value or (kept[name] < value and not told["unread"]):
            yield f"{name}: {value:g} repairs counted, {kept[name]} in the history"
        if value > writes[name]:
            yield f"{name}: {value:g} repairs counted, {writes[name]} writes seen by the kernel"
    if metrics[f'ipvsd_sysctl_drifts_total{{sysctl="{told["changed"]}"}}']:
        yield f"{told['changed']}: a value that is not wanted any more was counted as a drift"


def _misloaded(metrics: Mapping[str, float], changes: Sequence[Change]) -> Iterator[str]:
    """Yield the modules whose loads in the metrics differ from the kernel's trace."""
    for name, value in _counts(metrics, "module_loads", "module"):
        found = sorted(change for change in changes if change.name == name)
        loads = [change for change in found if not change.gone]
        ours = sum(change.ours for change in loads)
        # A simultaneous load by another program counts as well. A module that is unloaded before the verification
        # does not.
        brief = sum(then.gone and then.at - this.at < LIMIT for this, then in zip(found, found[1:]) if this.ours)
        if not ours - brief <= value <= len(loads):
            yield f"{name}: {value:g} loads counted, the kernel saw {ours} of ipvsd's and {len(loads) - ours} of others"


def _counts(metrics: Mapping[str, float], name: str, label: str) -> Iterator[tuple[str, float]]:
    pattern = re.compile(rf'ipvsd_{name}_total{{{label}="(.*)"}}')
    for sample, value in metrics.items():
        found = pattern.fullmatch(sample)
        if found:
            yield found[1], value


def _label(name: str) -> str:
    own = name == "net.ipv4.conf.default.forwarding"
    return PATTERN if name.startswith("net.ipv4.conf.") and not own else name


def _unheard(written: Sequence[Write], ours: int, periods: Sequence[Period], told: Mapping[str, Any]) -> Iterator[str]:
    """Yield the writes that ipvsd did not receive, although it had to watch the sysctl.

    It does not watch contended sysctls. It does not watch those that the last reconciliation found non-compliant,
    until one finds them compliant.
    """
    wrong = {(key, value) for key, value, _ in told["injected"]}
    right_since: dict[str, float] = {}
    for write in sorted(written):
        right = write.pid == ours or (write.key, write.value) not in wrong
        keys = told["sysctls"] if write.key == FORWARD else [write.key]  # the kernel copies ip_forward
        watched = write.key in told["sysctls"] and not is_contended(periods, write.key, write.at)
        if write.heard == "untold" and not right and watched and write.at - right_since.get(write.key, 0.0) > LIMIT:
            yield f"{write.key}: ipvsd was not told of '{write.value}', written at {write.at:.3f} by {write.pid}"
        for key in keys:
            if key == write.key or is_of_interface(key):
                right_since[key] = write.at if right else float("inf")


def _lost(told: Mapping[str, Any], lost: Mapping[str, int]) -> Iterator[str]:
    """Yield the differences between ipvsd and the kernel in the number of lost events."""
    ring = _without_room(told)
    queue = sum(row[2] == "queued" for row in told["trace"])
    if lost["sysctl_bpf"] != ring:
        yield f"the kernel had no room for {ring} writes, ipvsd counts {lost['sysctl_bpf']}"
    # ipvsd only reports that some of these were lost, and the trace does not show which inotify queue was full.
    if (lost["uevents"] > 0) != (told["drops"] > 0):
        yield f"netlink dropped {told['drops']} messages, ipvsd noticed {lost['uevents']} times"
    if lost["sysctl_inotify"] > queue:
        yield f"inotify overflowed {queue} times, ipvsd counts {lost['sysctl_inotify']}"
    if told["untraced"]:
        yield f"{told['untraced']} events of the kernel's tracing are missing"


def _without_room(told: Mapping[str, Any]) -> int:
    """Return the number of records for which the program's ring had no room."""
    return sum(row[2] == "told" and row[3][0] != 0 for row in told["trace"])


def _grown(quiet: Sequence[Mapping[str, float]]) -> Iterator[str]:
    first, last = quiet[0], quiet[-1]
    if last["resident"] - first["resident"] > GROWTH:
        yield f"resident memory grew from {first['resident'] / MB:.1f} to {last['resident'] / MB:.1f} MB"
    for what in ("descriptors", "threads"):
        if last[what] != first[what]:
            yield f"{what}: {first[what]} after the first round, {last[what]} after the last"


def _logged(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in entries:
        message = str(entry["MESSAGE"])
        if not any(re.match(pattern, message) for pattern in LINES):
            yield f"unexpected in the log: {message}"


def _left(told: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    if told["counts"]["unanswered"]:
        yield f"{told['counts']['unanswered']} requests over HTTP were not answered"
    if document["state"] != "ready" or document["failures"]:
        yield f"in the end: {document['summary']} {document['failures']}"


# --- the report -------------------------------------------------------------------------


def report(evidence: Evidence, outcome: Outcome) -> Iterator[str]:
    """Yield the lines of a report, at most 80 characters each, except for faults."""
    told, counts = evidence.told, evidence.told["counts"]
    yield f"Soak test: {evidence.seconds:.0f} s, seed {evidence.seed}, {len(told['quiet'])} rounds"
    yield ""
    yield from _balanced(outcome)
    yield ""
    writes = outcome.writes
    lost = ", ".join(f"{count} {name}" for name, count in outcome.lost.items())
    yield f"Writes that the kernel saw: {writes['of ipvsd']} of ipvsd; of others, {writes['told']} were told to"
    yield f"ipvsd, {writes['untold']} were not watched, and for {writes['lost']} there was no room. It began"
    yield f"{writes['again']} anew, each of which is told as well."
    yield f"Lost events, by ipvsd's count: {lost};"
    yield f"by the kernel's: {_without_room(told)} writes, {told['drops']} messages of netlink."
    yield ""
    yield f"Besides: {counts['interfaces']} interfaces, {counts['configurations']} configurations,"
    yield f"{counts['scrapes']} requests (at most {told['slowest']:.2f} s), {counts['slow']} slow clients,"
    yield f"{counts['full']} times no room in /run, {counts['jumps']} jumps of the clock,"
    yield f"{counts['sleeps']} times asleep, for {told['slept']:.0f} s in all."
    yield ""
    yield from _over_time(told)
    yield ""
    yield from ("Faults: none",) if not outcome.faults else ("Faults:", *(f"  {line}" for line in outcome.faults))


def _balanced(outcome: Outcome) -> Iterator[str]:
    account, modules = outcome.account, outcome.modules
    yield f"{'':34}{'sysctls':>10}{'modules':>10}"
    rows: Sequence[tuple[str, Optional[int], Optional[int]]] = (
        ("drifts injected", account.injected, modules.unloaded),
        ("= repaired", account.repaired, modules.repaired),
        ("+ contended", account.contended, None),
        ("+ superseded by a later write", account.superseded, modules.superseded),
        ("+ unexplained", len(account.unexplained), len(modules.unexplained)),
        ("counted by ipvsd", *outcome.counted),
        ("- of values that were passed on", account.passed_on, None),
        ("- of values that were stored twice", account.again, None),
        ("periods of contention", len(outcome.periods), None),
    )
    for text, *numbers in rows:
        yield f"{text:34}{''.join(f'{_shown(number):>10}' for number in numbers)}".rstrip()
    yield f"{'longest time of a drift, s':34}{account.longest:10.2f}{modules.longest:10.2f}"


def _shown(number: Optional[int]) -> str:
    return "" if number is None else str(number)


def _over_time(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield the maximum use of the daemon's resources in each round, and in the quiet time after it."""
    yield f"{'time, s':>8}{'resident, MB':>14}{'descriptors':>13}{'threads':>9}{'interfaces':>12}"
    samples, begun = told["samples"], told["samples"][0]["at"]
    since = begun
    for quiet in told["quiet"]:
        busy = [row for row in samples if since <= row["at"] < quiet["at"]]
        rows = [(max(busy, key=lambda row: float(row["resident"])), "at most")] if busy else []
        since = quiet["at"]
        for row, what in (*rows, (quiet, "quiet")):
            yield (
                f"{row['at'] - begun:8.0f}{row['resident'] / MB:14.1f}{row['descriptors']:13}{row['threads']:9}"
                f"{row['interfaces']:12}  {what}"
            )


def main() -> int:
    """Return 0 if there was no fault, otherwise 1."""
    parser = argparse.ArgumentParser(prog="tests.vm.soak", description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--keep", type=Path, help="a file for all that the report is made of")
    parser.add_argument("--again", action="store_true", help="judge what was kept, and boot nothing")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    if options.again:
        found = [Evidence(*kept) for kept in json.loads(options.keep.read_text())]
    else:
        say(f"seed {options.seed}")
        found = [boot_and_run(number, options.seconds / len(PROCESSORS), options.seed, say) for number in PROCESSORS]
        if options.keep:
            options.keep.write_text(json.dumps(found))
    outcomes = [judge(evidence) for evidence in found]
    print("\n\n".join("\n".join(report(*both)) for both in zip(found, outcomes)))
    return 1 if any(outcome.faults for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
