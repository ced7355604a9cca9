"""The judgement of a soak test: faults, and results that are not faults.

tests/vm/test_soak.py is the machine's part.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vm import soak
from tests.vm.soak import FIGHT, PEACE, RESTARTED, Evidence, judge, parse, report

PID = 700
KEY, FOUGHT, CHANGED = "net.ipv4.vs.conntrack", "net.core.somaxconn", "net.core.netdev_budget"


def written(at: float, pid: int, place: str, name: str, value: str, told: bool = True) -> list[list[Any]]:
    """Return the kernel's record of a write."""
    answer = [[at + 0.001, pid, "told", [0]]] if told and pid != PID else []
    return [[at, pid, "write", [place, name, value]], *answer, [at + 0.002, pid, "wrote", [len(value)]]]


def sample(at: float, megabytes: float, descriptors: int) -> dict[str, float]:
    return {"at": at, "resident": megabytes * 1e6, "threads": 3, "descriptors": descriptors, "interfaces": 2}


def entry(at: float, message: str, **fields: str) -> dict[str, str]:
    return {"__MONOTONIC_TIMESTAMP": str(int(at * 1e6)), "MESSAGE": message, **fields}


def evidence() -> Evidence:
    """A run with one repaired drift, one contended sysctl, and one reloaded module."""
    trace = [
        [29.9, 801, "write", ["vs", "conntrack", "2"]], [29.91, 801, "wrote", [RESTARTED]],
        *written(30.0, 801, "vs", "conntrack", "2"), *written(30.1, PID, "vs", "conntrack", "1"),
        *written(60.0, 802, "core", "somaxconn", "10000", told=False), [70.0, 803, "module_free", ["ip_vs_sh"]],
        [70.1, PID, "module_load", ["ip_vs_sh"]], [71.0, 803, "module_load", ["veth"]],
    ]  # fmt: skip
    counts = dict.fromkeys("interfaces modules configurations scrapes unanswered slow full jumps sleeps".split(), 0)
    told = {
        "pid": PID, "injected": [[KEY, "2", 29.8], [FOUGHT, "10000", 59.9]], "gone": [], "unread": [],
        "trace": trace, "untraced": 0, "drops": 0,
        "sysctls": [KEY, FOUGHT, CHANGED], "changed": CHANGED, "counts": counts,
        "history": [{"name": KEY, "actual": "2"}, {"name": "ip_vs_sh", "actual": "unloaded"}], "notes": [],
        "samples": [sample(5, 40, 90), sample(80, 60, 400)], "quiet": [sample(40, 38, 60), sample(90, 40, 60)],
        "slept": 0.0, "slowest": 0.1,
    }  # fmt: skip
    metrics = {
        f'ipvsd_sysctl_repairs_total{{sysctl="{KEY}"}}': 1.0,
        f'ipvsd_sysctl_repairs_total{{sysctl="{FOUGHT}"}}': 0.0,
        f'ipvsd_sysctl_drifts_total{{sysctl="{CHANGED}"}}': 0.0,
        'ipvsd_module_loads_total{module="ip_vs_sh"}': 1.0,
        "ipvsd_module_unloads_total": 1.0,
    }
    sources = [{"name": name, "events_lost": 0} for name in ("uevents", "sysctl_inotify", "sysctl_bpf")]
    document = {
        "modules": [{"name": "ip_vs_sh"}],
        "sources": [*sources, {"name": "web", "events_lost": None}], "state": "ready",
        "failures": [], "summary": "ready: 1 module",
    }  # fmt: skip
    started = f"{FOUGHT} is contended: repaired more than 20 times in 60 s, last changed by x"
    entries = [
        entry(50, started, MESSAGE_ID=FIGHT, SYSCTL=FOUGHT),
        entry(80, f"{FOUGHT} is no longer contended", MESSAGE_ID=PEACE, SYSCTL=FOUGHT),
    ]
    return Evidence(1, 120.0, told, metrics, document, entries, ())


def test_a_run_without_faults_has_a_report_of_80_columns() -> None:
    outcome = judge(evidence())
    assert outcome.faults == ()
    assert (outcome.account.repaired, outcome.account.contended, outcome.modules.repaired) == (1, 1, 1)
    assert outcome.counted == (1, 1)
    assert outcome.writes == {"of ipvsd": 1, "told": 1, "untold": 1, "again": 1}
    assert max(map(len, report(evidence(), outcome))) <= 80


def hide(trace: list[Any], kind: str) -> None:
    """Remove the first record of this kind from the kernel's trace."""
    trace.remove(next(row for row in trace if row[2] == kind))


def test_the_text_of_the_trace_is_parsed() -> None:
    text = """# tracer: nop
          python3-801     [001] ...1.   117.512345: write: (__cgroup_bpf_run_filter_sysctl+0x0/0x2c0) write=1 \
dir="vs" name="conntrack" value=0xa32
          python3-801     [001] d..1.   117.512400: told: (sysctl_write+0x1/0x2 <- bpf_ringbuf_output) ret=0
 kworker/u4:1-ev-77      [000] d..1.   117.512500: wrote: (vfs_write+0x1/0x2 <- proc_sys_write) ret=-513
            rmmod-900     [000] .....   118.000000: module_free: ip_vs_sh
CPU:1 [LOST 3 EVENTS]
"""
    assert list(parse(text.splitlines())) == [
        (117.512345, 801, "write", ("vs", "conntrack", "2")),
        (117.5124, 801, "told", (0,)),
        (117.5125, 77, "wrote", (-513,)),
        (118.0, 900, "module_free", ("ip_vs_sh",)),
    ]


def test_the_trace_contains_repairs_that_the_history_has_dropped() -> None:
    run = evidence()
    run.told["history"].pop(0)
    run.told["unread"].append([30.5, 31.0])
    outcome = judge(run)
    assert (outcome.faults, outcome.account.repaired) == ((), 1)


FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "a repair that is counted and not remembered": (lambda it: it.told["history"].pop(0), "1 repairs counted, 0"),
    "a repair that is not counted": (
        lambda it: it.metrics.update({f'ipvsd_sysctl_repairs_total{{sysctl="{KEY}"}}': 0.0}),
        "0 repairs counted, 1 in the history",
    ),
    "a repair that was not kept, and that the kernel did not see": (
        lambda it: (
            it.told["unread"].append([30.5, 31.0]),
            it.metrics.update({f'ipvsd_sysctl_repairs_total{{sysctl="{KEY}"}}': 2.0}),
        ),
        "2 repairs counted, 1 writes seen",
    ),
    "a load that the kernel did not see": (
        lambda it: hide(it.told["trace"], "module_load"),
        "1 loads counted, the ker",
    ),
    "a drift of what is not wanted any more": (
        lambda it: it.metrics.update({f'ipvsd_sysctl_drifts_total{{sysctl="{CHANGED}"}}': 1.0}),
        "counted as a drift",
    ),
    "a write that ipvsd was not told of": (lambda it: hide(it.told["trace"], "told"), "was not told of '2'"),
    "a lost write that is not counted": (
        lambda it: it.told["trace"].append([99.0, 804, "told", [-11]]),
        "no room for 1 writes, ipvsd counts 0",
    ),
    "a lost message that is not noticed": (lambda it: it.told.update(drops=3), "netlink dropped 3"),
    "events that the tracing lost": (lambda it: it.told.update(untraced=1), "1 events of the kernel's tracing"),
    "memory": (lambda it: it.told["quiet"].append(sample(99, 43, 60)), "grew from 38.0 to 43.0 MB"),
    "descriptors": (lambda it: it.told["quiet"].append(sample(99, 38, 61)), "descriptors: 60 after"),
    "an unexpected line": (lambda it: it.entries.append(entry(60, "Traceback (most recent")), "in the log"),
    "a request without an answer": (lambda it: it.told["counts"].update(unanswered=1), "not answered"),
    "a node that is not right in the end": (lambda it: it.document.update(state="failed"), "in the end"),
    "a disturbance that failed": (lambda it: it.told["notes"].append("the machine did not sleep"), "did not sleep"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_deviation_is_a_fault(name: str) -> None:
    change, told = FAULTS[name]
    changed = copy.deepcopy(evidence())
    change(changed)
    assert any(told in fault for fault in judge(changed).faults), judge(changed).faults


def test_hacking_md_has_the_number_of_interfaces() -> None:
    text = (Path(__file__).parent.parent / "HACKING.md").read_text()
    # A third of them have a peer.
    few, many = (number * 4 // 3 // 100 * 100 for number in (soak.INTERFACES, soak.MORE_INTERFACES))
    assert f"About {few} interfaces (dummy, veth) at a time" in text
    assert f"it is about {many:,} at a time" in text
