"""What was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

from tests.vm.alternatives import PERIOD, Alternative, Event
from tests.vm.bounds import Promise, ms
from tests.vm.figures import Boot, Idle, Memory, Module, Rest, Spread, Start, Storm, Sysctl
from tests.vm.native import KEY, Native


@dataclass(frozen=True)
class Results:
    """`figures` holds what the promises were made from, each in a class of its own."""

    machine: dict[str, str]
    promises: tuple[Promise, ...]
    sysctl: Sysctl
    modules: tuple[Module, ...]
    figures: tuple[Union[Start, Boot, Memory, Idle, Storm], ...]
    program: Spread
    rest: Rest
    alternatives: tuple[Alternative, ...]
    native: Native


def markdown(results: Results) -> str:
    """Return the whole document."""
    return "\n".join((*_head(results), *_promises(results), *_beside(results), *_native(results)))


def _head(results: Results) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "Written by `make bench`; [benchmarks.json](benchmarks.json) has all of it. One boot of one virtual machine:"
    yield ""
    yield from (f"- {what}: {value}" for what, value in results.machine.items())
    yield ""
    if "no KVM" in results.machine["emulation"]:
        yield "The machine is emulated, in which Python is some 10 to 15 times slower than outside. Its times"
        yield "mean little; the ratios of times from the same boot are what counts. Where two of its processors share"
        yield "one of this computer's, what is woken may wait for a time slice's end, and a sysctl's ratios are more."
        yield ""


def _promises(results: Results) -> Iterator[str]:
    yield "## What is promised"
    yield ""
    yield "Medians of alternating tries with the same rest before each, unless it says otherwise."
    yield ""
    yield "| what | measured | at most | kept | beside |"
    yield "|---|---|---|---|---|"
    for one in results.promises:
        kept = "yes" if one.kept else "**no**"
        measured = f"{one.measured:.2f}" if one.unit in ("x", "MB") else f"{one.measured:.0f}"
        yield f"| {one.what} | {measured} {one.unit} | {one.bound:g} {one.unit} | {kept} | {one.beside} |"
    yield ""
    if not all(one.kept for one in results.promises):
        missed = "; ".join(one.what for one in results.promises if not one.kept)
        yield f"**Missed in this run:** {missed}."
        yield ""
    yield "- A module's time begins when delete_module(2) returns; modprobe's is from its exec to its end, while the"
    yield "  daemon is stopped (SIGSTOP). modprobe writes no sysctls."
    yield "- A sysctl's time begins when write(2) returns. The measurement waits with inotify, like the daemon."
    yield f"  sysctl(8), as a program, takes {ms(results.program.p50)} (median)."
    yield "- The start's Python imports yaml, dataclasses, argparse and socket: a fixed measure, of which ipvsd itself"
    yield "  needs neither dataclasses nor argparse."
    unit = next((one.unit for one in results.figures if isinstance(one, Start)), None)
    if unit:
        yield f"- A start is without systemd. As the unit, with its sandbox to be made first, it takes {ms(unit.p50)}."
    boot = next((one for one in results.figures if isinstance(one, Boot)), None)
    if boot:
        mine, bare = _time(boot.enabled.p50), _time(boot.disabled.p50)
        yield f"- From systemd's first step until kubelet starts: {mine} where ipvsd is enabled, {bare} where it is not"
        yield f"  (medians of {boot.enabled.tries} boots each). Nothing is promised of that: Python is too slow here."
    yield "- Resident memory with the metrics, IPVS and the history at work. Pages come and go with what happens to lie"
    yield "  in them; what is more than that is growth."
    yield "- The storm meets the daemon as shipped: what is contended is written at periodic looks only."
    yield ""


def _beside(results: Results) -> Iterator[str]:
    yield "## Beside what people use instead"
    yield ""
    yield "The same modules and sysctls, in the same boot. Median, and least to most of so many tries."
    yield ""
    yield "| | ip_vs_sh unloaded to live | ip_forward changed to restored | CPU, idle minute | resident |"
    yield "|---|---|---|---|---|"
    mine = (f"{_tries(results.modules[0].repair)} | {_tries(results.sysctl.repair)}", results.rest)
    cost = mine[1].processor * 60 / mine[1].seconds
    yield f"| ipvsd | {mine[0]} | {cost:.2f} s | {mine[1].resident / 1e6:.1f} MB |"
    for other in results.alternatives:
        found = f"{_event(other.module)} | {_event(other.sysctl)}"
        yield f"| {other.name} | {found} | {other.processor:.2f} s | {_size(other.resident)} |"
    yield ""
    timer = next((other.run for other in results.alternatives if other.run), None)
    if timer:
        yield f"- The timer: a script with `modprobe -a` and `sysctl -q -p`, every {PERIOD} s, AccuracySec=1s. The"
        yield f"  tries are spread evenly over the period. A run takes {ms(timer.p50)}. Computed, not"
        yield f"  measured: of drifts at any moment half are repaired in {PERIOD / 2 + timer.p50:.0f} s, and 99 % in"
        yield f"  {PERIOD * 0.99 + timer.p50:.0f} s."
    yield "- TuneD: a profile with `[modules]` (each `+r`, or TuneD loads nothing) and `[sysctl]`. It applies"
    yield "  them when it starts and when the profile changes."
    yield "- systemd-modules-load and systemd-sysctl act at boot."
    yield "- CPU is that of the unit and its children alone; nothing resident means: between its runs."
    yield ""


def _native(results: Results) -> Iterator[str]:
    native = results.native
    trip = native.round_trip.p50
    yield "## Outside emulation"
    yield ""
    yield "On the computer itself, in a network namespace of its own: one sysctl, no modules; writes are seen by"
    yield f"{native.backend}, since a BPF program would be attached to the computer's control groups. It is started"
    yield "with --config, for which the grammar of the command line is needed besides."
    yield ""
    yield "| what | p50 | p99 | least to most, tries |"
    yield "|---|---|---|---|"
    rows = {
        f"{KEY}: write to restored": native.repair,
        "a byte to another Python process and back": native.round_trip,
        "exec to READY=1": native.ready,
        "Python with its imports": native.python,
    }
    for what, one in rows.items():
        yield f"| {what} | {ms(one.p50)} | {ms(one.p99)} | {ms(one.least)} to {ms(one.most)}, {one.tries} |"
    yield ""
    mine = native.repair
    yield f"The repair is {mine.p50 / trip:.1f} x the round trip at p50 and {mine.p99 / trip:.1f} x at p99"
    yield f"(the round trip's own p99: {native.round_trip.p99 / trip:.1f} x). Resident: {_size(native.resident)}."
    yield ""


def _size(resident: int) -> str:
    return f"{resident / 1e6:.1f} MB" if resident else "nothing"


def _tries(one: Spread) -> str:
    return f"{_time(one.p50)} ({_time(one.least)} to {_time(one.most)}, {one.tries})"


def _event(event: Event) -> str:
    repaired: Optional[Spread] = event.repaired
    if repaired is None:
        return f"never: not within {event.waited} s ({event.tries} {'try' if event.tries == 1 else 'tries'})"
    lost = event.tries - repaired.tries
    return _tries(repaired) + (f"; {lost} never" if lost else "")


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else ms(seconds)
