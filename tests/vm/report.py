"""The measurements as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional, Union

from tests.vm.alternatives import PERIOD, Alternative, Event
from tests.vm.bounds import Promise, ms
from tests.vm.figures import Boot, Idle, Memory, Module, Rest, Spread, Start, Storm, Sysctl
from tests.vm.native import KEY, Native
from tests.vm.secured import INTERVAL


@dataclass(frozen=True)
class Results:
    """`figures` contains the measurements behind the promises, each in its own class. `secured` are those with TLS."""

    machine: dict[str, str]
    promises: tuple[Promise, ...]
    sysctl: Sysctl
    modules: tuple[Module, ...]
    figures: tuple[Union[Start, Boot, Memory, Idle, Storm], ...]
    secured: tuple[Union[Start, Memory, Idle, Storm], ...]
    program: Spread
    rest: Rest
    alternatives: tuple[Alternative, ...]
    native: Native


def markdown(results: Results) -> str:
    return "\n".join((*_head(results), *_promises(results), *_beside(results), *_native(results)))


def table(promises: Iterable[Promise]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield "| value | measured | bound | met | compared with |"
    yield "|---|---|---|---|---|"
    for one in promises:
        kept = "yes" if one.kept else "**no**"
        measured = f"{one.measured:.2f}" if one.unit in ("x", "MB") else f"{one.measured:.0f}"
        yield f"| {one.what} | {measured} {one.unit} | {one.bound:g} {one.unit} | {kept} | {one.beside} |"


def _head(results: Results) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "`make bench` generates this page and [benchmarks.json](benchmarks.json), which contains all values."
    yield "All values are from one boot of one virtual machine:"
    yield ""
    yield from (f"- {what}: {value}" for what, value in results.machine.items())
    yield ""
    if "no KVM" in results.machine["emulation"]:
        yield "Python is 10 to 15 times slower in this emulated guest than on the host. Compare the ratios of times"
        yield "from the same boot, not the times. If two virtual processors of the guest share one processor of the"
        yield "host, a process that becomes runnable can wait until the end of a time slice. This increases the ratios"
        yield "of a sysctl."
        yield ""


def _promises(results: Results) -> Iterator[str]:
    yield "## Bounds"
    yield ""
    yield "Unless noted otherwise, each value is the median of several runs. Runs of ipvsd and of the alternative"
    yield "alternate, with the same idle period before each run."
    yield ""
    yield from table(results.promises)
    yield ""
    if not all(one.kept for one in results.promises):
        missed = "; ".join(one.what for one in results.promises if not one.kept)
        yield f"**Missed in this run:** {missed}."
        yield ""
    yield "- The measurement for a module starts when delete_module(2) returns. The measurement for modprobe runs from"
    yield "  its exec to its exit, while the daemon is stopped (SIGSTOP). modprobe does not write sysctls."
    yield "- The measurement for a sysctl starts when write(2) returns. It uses inotify to detect the restored value,"
    yield f"  as the daemon does. sysctl(8) takes {ms(results.program.p50)} (median)."
    yield "- The Python program of the cold start imports yaml, dataclasses, argparse and socket. ipvsd itself imports"
    yield "  neither dataclasses nor argparse. It imports a part of yaml, if its configuration has values."
    unit = next((one.unit for one in results.figures if isinstance(one, Start)), None)
    if unit:
        yield "- A cold start is measured without systemd. Starting the unit, including its sandbox, takes"
        yield f"  {ms(unit.p50)}."
    boot = next((one for one in results.figures if isinstance(one, Boot)), None)
    if boot:
        mine, bare = _time(boot.enabled.p50), _time(boot.disabled.p50)
        yield f"- systemd takes {mine} from its first step to the start of kubelet with ipvsd, and {bare} without it"
        yield f"  (medians of {boot.enabled.tries} boots each). This has no bound, because Python is too slow here."
    yield "- Resident memory includes the metrics, the IPVS query and the history. A change of a few memory pages is"
    yield "  normal. Only a larger increase is treated as growth."
    yield "- During the write storm, the daemon has the default configuration: it writes a contended sysctl only at"
    yield "  each resync."
    yield "- With TLS, the endpoint requires a client certificate. A client scrapes it over TLS every"
    yield f"  {INTERVAL} s during the repairs and the write storm. The cold start loads the web configuration file."
    yield ""


def _beside(results: Results) -> Iterator[str]:
    yield "## Comparison with alternatives"
    yield ""
    yield "The modules, the sysctls and the boot are the same. Each value is a median, followed by the minimum, the"
    yield "maximum and the number of runs."
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
        yield f"  changes are spread evenly over the period. The script takes {ms(timer.p50)}. By calculation, it"
        half, most = PERIOD / 2 + timer.p50, PERIOD * 0.99 + timer.p50
        yield f"  repairs half of them in {half:.0f} s, and 99 % in {most:.0f} s."
    yield "- TuneD has a profile with `[modules]` and `[sysctl]`. TuneD loads a module only if its entry has the option"
    yield "  `+r`. TuneD applies the profile when it starts and when the profile changes."
    yield "- systemd-modules-load and systemd-sysctl run at boot."
    yield '- CPU is the CPU time of the unit and its children. "nothing" means that no process is resident between'
    yield "  the runs."
    yield ""


def _native(results: Results) -> Iterator[str]:
    native = results.native
    trip = native.round_trip.p50
    yield "## Without emulation"
    yield ""
    yield "These values were measured on the host itself, in a separate network namespace, with one sysctl and no"
    yield f"modules. The backend is {native.backend}, because a BPF program would be attached to the host's control"
    yield "groups. The daemon is started with --config, so it also imports the command line parser."
    yield ""
    yield "| value | p50 | p99 | minimum to maximum, runs |"
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
    yield f"(the p99 of the round trip: {native.round_trip.p99 / trip:.1f} x its median)."
    yield f"Resident: {_size(native.resident)}."
    yield ""


def _size(resident: int) -> str:
    return f"{resident / 1e6:.1f} MB" if resident else "nothing"


def _tries(one: Spread) -> str:
    return f"{_time(one.p50)} ({_time(one.least)} to {_time(one.most)}, {one.tries})"


def _event(event: Event) -> str:
    repaired: Optional[Spread] = event.repaired
    if repaired is None:
        return f"not restored within {event.waited} s ({event.tries} {'run' if event.tries == 1 else 'runs'})"
    lost = event.tries - repaired.tries
    return _tries(repaired) + (f"; {lost} not restored" if lost else "")


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else ms(seconds)
