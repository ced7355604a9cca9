"""The promises about speed and cost: ratios within one boot, and whether they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.vm.figures import MIB, Idle, Memory, Module, Start, Storm, Sysctl

MEMORY = 34  # MB (10^6 bytes); more than half of it is Python, OpenSSL, prometheus_client and watchdog
# MB: permitted growth from the first mark to the second, and from each later one to the next.
EARLY_GROWTH, LATE_GROWTH = 1.0, 0.5
LINES = 132  # six keys: 20 repairs each before it is contended, and two lines about the contention
WAKEUPS_OF_A_LOOK = 2  # it can itself wait for a lock or a page


@dataclass(frozen=True)
class Promise:
    """`measured` is at most `bound`, both in `unit`. `beside` names the comparison."""

    what: str
    measured: float
    bound: float
    unit: str
    beside: str

    @property
    def kept(self) -> bool:
        return self.measured <= self.bound


def ms(seconds: float) -> str:
    """Return a time for people."""
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.2f} ms"


def of_module(module: Module) -> Promise:
    """Compare medians with the kernel's own part, which no loader can save.

    A ratio to modprobe depends on the cost of starting a program: QEMU 10 starts one in a third of QEMU 7.2's time.
    """
    mine, own = module.repair.p50, module.kernel.p50
    right = f", its {module.sysctls} sysctls compliant" if module.sysctls else ""
    what = f"{module.name}: unloaded to live{right}"
    theirs = f"`modprobe {module.name}` takes {ms(module.modprobe.p50)}"
    beside = f"finit_module(2) itself: {ms(mine)} against {ms(own)}; {theirs}"
    return Promise(what, mine / own, 1.25, "x", beside)


def of_sysctl(sysctl: Sysctl) -> tuple[Promise, Promise]:
    """Compare with the median round trip of a byte between two Python processes."""
    unit, mine, trip = sysctl.round_trip.p50, sysctl.repair, sysctl.round_trip
    half = f"a byte to another Python process and back: {ms(mine.p50)} against {ms(unit)}"
    tail = (
        f"the median of the same round trip: {ms(mine.p99)} against {ms(unit)}; "
        f"the p99 of the round trip is {trip.p99 / unit:.1f} x its median"
    )
    return (
        Promise("sysctl: write to restored, p50", mine.p50 / unit, 3, "x", half),
        Promise("sysctl: write to restored, p99", mine.p99 / unit, 20, "x", tail),
    )


def of_start(start: Start) -> Promise:
    """Compare the medians with an interpreter with some imports, and a shell that does the work."""
    mine, python, shell = start.ready.p50, start.python.p50, start.shell.p50
    beside = (
        f"Python with its imports, then modprobe and sysctl: {ms(mine)} against {ms(python)} + {ms(shell)}; "
        f"{mine / shell:.1f} x modprobe and sysctl alone"
    )
    what = "cold start: exec to READY=1, with all modules and sysctls to load and write"
    return Promise(what, mine / (python + shell), 1.5, "x", beside)


def of_memory(memory: Memory) -> tuple[Promise, ...]:
    """Return the resident memory at the last mark, and its growth between marks."""
    last, late = memory.after[-1]
    beside = f"{memory.fresh / 1e6:.1f} MB before the first repair; {late / 1e6:.2f} MB is {late / MIB:.1f} MiB"
    bounds = (EARLY_GROWTH, *[LATE_GROWTH] * len(memory.after))
    grown = (
        Promise(f"growth between {first} and {then} repairs", (more - size) / 1e6, bound, "MB", f"{size / 1e6:.1f} MB")
        for (first, size), (then, more), bound in zip(memory.after, memory.after[1:], bounds)
    )
    return Promise(f"resident memory after {last} repairs", late / 1e6, MEMORY, "MB", beside), *grown


def of_idle(idle: Idle) -> tuple[Promise, ...]:
    """Return the wake-ups and log lines, except for the resyncs, each of which feeds the watchdog."""
    more = idle.wakeups - idle.looks * WAKEUPS_OF_A_LOOK
    return (
        Promise("idle: wake-ups except for the resync", max(0, more) + idle.others, 0, "",
                f"{idle.wakeups} of the main thread in {idle.looks} resyncs, {idle.others} of other threads"),
        Promise("idle: lines logged", idle.lines, 0, "", f"{idle.looks} resyncs"),
    )  # fmt: skip


def of_storm(storm: Storm) -> tuple[Promise, ...]:
    """Return the share of one processor, the time until everything was compliant, and the number of log lines."""
    rate = f"{storm.writes} writes in {storm.seconds:.0f} s"
    return (
        Promise("write storm: CPU time of one processor", 100 * storm.processor / storm.seconds, 20, "%", rate),
        Promise("write storm: all compliant afterwards", storm.until_right, 65, "s",
                f"resync 60 s; {storm.lost} events lost"),
        Promise("write storm: lines logged", storm.lines, LINES, "",
                "six keys, each repaired at most 20 times a minute"),
    )  # fmt: skip


def of_secured(start: Start, memory: Memory, idle: Idle, storm: Storm) -> tuple[Promise, ...]:
    """Return the promises about an endpoint with TLS. The bounds are those without it."""
    promises = (of_start(start), *of_memory(memory), *of_idle(idle), *of_storm(storm))
    return tuple(replace(promise, what=f"{promise.what}, with TLS") for promise in promises)
