"""Findings about the next boot: the installed kernels, and the files that will undo the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ipvsd.boot.next_boot import Boot
from ipvsd.conflicts.detection import complies
from ipvsd.conflicts.external_setting import APPLIED_WHEN, Effect, ExternalSetting, Program
from ipvsd.decide.health import could_be_ready, obtainable, required
from ipvsd.doctor import sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.model.report import InstalledKernel
from ipvsd.model.types import Need, Plan, Want
from ipvsd.model.value_texts import listed, text_of

_EFFECTS = {
    Effect.SETS: "sets {name}",
    Effect.BLOCKS: "blocks module {name}",
    Effect.UNLOADS: "unloads module {name}",
}
_SHOWN = 6


def kernels(installed: Sequence[InstalledKernel], running: str) -> Iterator[Finding]:
    """Yield the installed kernels other than the running one under which the node cannot be ready."""
    for kernel in installed:
        if kernel.running or could_be_ready(kernel):
            continue
        lacking = [found for found in kernel.modules if found.desired.need is Need.REQUIRED and not obtainable(found)]
        when = "the next boot uses it" if kernel.boots_next else "it is installed"
        yield Finding(
            "kernel_not_ready",
            Severity.WARNING,
            f"kernel {kernel.release} lacks {listed([found.name for found in lacking], _SHOWN)} ({when})",
            tuple(dict.fromkeys(found.evidence for found in lacking))[:_SHOWN],
            f"the running kernel is {running}; after a boot of {kernel.release}, this node is failed",
            (lacking[0].remedy if lacking else "") or f"run 'ipvsd preflight --kernel {kernel.release}'",
            sections.MODULE_NOT_FOUND,
        )


def files(boot: Boot, plan: Plan) -> Iterator[Finding]:
    """Yield the lines of files that give a managed item another value, block it or unload it.

    `sysctl --system` reads the files of systemd-sysctl, so its own settings count only where that does not run.
    """
    wants = {found.name: found.desired.want for found in plan.sysctls}
    needed = {found.name for found in plan.findings if required(found)}
    # The verdict of a module that is not live already names the line that blocks it.
    blocked = {found.name for found in plan.modules if not found.compliant}
    counted = [
        item
        for item in boot.settings
        if _counts(item, wants) and not (item.effect is Effect.BLOCKS and item.name in blocked)
    ]
    grouped: dict[tuple[str, str], list[ExternalSetting]] = {}
    for item in counted:
        grouped.setdefault((item.origin, item.text), []).append(item)
    for (origin, text), group in grouped.items():
        first = group[0]
        names = list(dict.fromkeys(item.name for item in group))
        effect = _EFFECTS[first.effect].format(name=listed(names, _SHOWN))
        value = f" to {first.value}" if first.effect is Effect.SETS else ""
        repaired = f"; {boot.unit} corrects it later" if boot.unit else ""
        yield Finding(
            "file_undoes_configuration",
            Severity.WARNING if set(names) & needed else Severity.NOTE,
            f"{origin} {effect}{value}",
            (text,),
            f"{text_of(first.program)} applies this line {APPLIED_WHEN[first.program]}{repaired}",
            first.remedy or f"remove the line from {origin.rpartition(':')[0] or origin}",
            _SECTION.get(first.program, sections.SYSCTL_CHANGED),
        )


_SECTION = {
    Program.MODPROBE: sections.MODULE_BLOCKED,
    Program.KERNEL: sections.MODULE_BLOCKED,
    Program.FIREWALLD: sections.FIREWALLD,
}


def _counts(item: ExternalSetting, wants: Mapping[str, Want]) -> bool:
    if not item.effective or item.failure or item.effect not in _EFFECTS or item.program is Program.PROCPS:
        return False
    return complies(item, wants.get(item.name)) is False


def failing_lines(notes: Sequence[str]) -> Iterator[Finding]:
    """Yield the lines that systemd-modules-load cannot process, and the other notes of `check`."""
    for note in notes:
        fails = "systemd-modules-load cannot load" in note
        text, _, fix = note.rpartition(" (") if note.endswith(")") else (note, "", "")
        yield Finding(
            "modules_load_fails" if fails else "note",
            Severity.WARNING if fails else Severity.NOTE,
            text,
            (),
            "" if not fails else "one unknown name makes systemd-modules-load.service fail at each boot",
            fix.removesuffix(")"),
            sections.MODULES_LOAD if fails else sections.REMOVED if "IPVS mode" in note else "",
        )
