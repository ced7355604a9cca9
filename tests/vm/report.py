"""The measurements as Markdown."""

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
    """`figures` contains the measurements behind the promises, each in its own class."""

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
    yield "`make bench` wrote this page and [benchmarks.json](benchmarks.json), which contains all values."
    yield "All values are from one boot of one virtual machine:"
    yield ""
    yield from (f"- {what}: {value}" for what, value in results.machine.items())
    yield ""
    if "no KVM" in results.machine["emulation"]:
        yield "Python is 10 to 15 times slower in this emulated machine than outside. Compare the ratios of times from"
        yield "the same boot, not the times. If two of its processors share one of the computer's, a process that is"
        yield "woken can wait for the end of a time slice, which increases the ratios of a sysctl."
        yield ""


def _promises(results: Results) -> Iterator[str]:
    yield "## Bounds"
    yield ""
    yield "Unless noted otherwise, a value is the median of alternating tries with the same rest before each."
    yield ""
    yield "| value | measured | bound | met | compared with |"
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
    yield "- The time of a module starts when delete_module(2) returns. The time of modprobe is from its exec to its"
    yield "  end, while the daemon is stopped (SIGSTOP). modprobe writes no sysctls."
    yield "- The time of a sysctl starts when write(2) returns. The measurement waits with inotify, like the daemon."
    yield f"  The program sysctl(8) takes {ms(results.program.p50)} (median)."
    yield "- The Python of the cold start imports yaml, dataclasses, argparse and socket. ipvsd itself imports neither"
    yield "  dataclasses nor argparse."
    unit = next((one.unit for one in results.figures if isinstance(one, Start)), None)
    if unit:
        yield f"- A cold start is without systemd. A start of the unit, including its sandbox, takes {ms(unit.p50)}."
    boot = next((one for one in results.figures if isinstance(one, Boot)), None)
    if boot:
        mine, bare = _time(boot.enabled.p50), _time(boot.disabled.p50)
        yield f"- systemd takes {mine} from its first step to the start of kubelet with ipvsd, and {bare} without it"
        yield f"  (medians of {boot.enabled.tries} boots each). This has no bound, because Python is too slow here."
    yield "- Resident memory includes the metrics, the IPVS query and the history. Single pages come and go; a larger"
    yield "  increase is growth."
    yield "- The daemon of the storm is configured as shipped: it writes a contended sysctl at each resync only."
    yield ""


def _beside(results: Results) -> Iterator[str]:
    yield "## Comparison with alternatives"
    yield ""
    yield "The modules, the sysctls and the boot are the same. Values are the median, and the minimum, the maximum and"
    yield "the number of tries."
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
        yield f"- The timer runs a script with `modprobe -a` and `sysctl -q -p` every {PERIOD} s, AccuracySec=1s. The"
        yield f"  tries are spread evenly over the period. A run takes {ms(timer.p50)}. By computation, it repairs"
        yield f"  half of the drifts in {PERIOD / 2 + timer.p50:.0f} s, and 99 % in {PERIOD * 0.99 + timer.p50:.0f} s."
    yield "- TuneD has a profile with `[modules]` and `[sysctl]`. It loads only modules with `+r`. It applies the"
    yield "  profile when it starts and when the profile changes."
    yield "- systemd-modules-load and systemd-sysctl run at boot."
    yield '- CPU is that of the unit and its children. "nothing" means that no process is resident between the runs.'
    yield ""


def _native(results: Results) -> Iterator[str]:
    native = results.native
    trip = native.round_trip.p50
    yield "## Outside emulation"
    yield ""
    yield "These values are from the computer itself, in a separate network namespace, with one sysctl and no"
    yield f"modules. The backend is {native.backend}, because a BPF program would be attached to the computer's control"
    yield "groups. The daemon is started with --config, so it also imports the parser of the command line."
    yield ""
    yield "| value | p50 | p99 | minimum to maximum, tries |"
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
