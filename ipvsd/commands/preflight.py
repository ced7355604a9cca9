"""ipvsd preflight: whether each installed kernel could satisfy the configuration, before it is booted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from ipvsd import configfiles, preflight, present
from ipvsd.commands import text
from ipvsd.model import ModuleFinding
from ipvsd.output import complain, say, say_json
from ipvsd.profiles import notes
from ipvsd.report import InstalledKernel


def run(root: str, only: Optional[str], output: str, kernel: Optional[str], brief: bool) -> int:
    """Exit 0 if every kernel that was looked at could, 1 if one could not, 2 if there is none to look at."""
    config = configfiles.load(root, only)
    kernels = preflight.survey(root, config, kernel)
    required = preflight.reboot_required(kernels, preflight.running_release(root)) if kernel is None else False
    what = f"kernel {kernel}: it is not" if kernel else "any kernel: there is none"
    complaint = f"cannot look at {what} in /lib/modules of {root} (install one, or see --root)"
    if output == "json":
        document = {
            "kernels": [_values(item) for item in kernels],
            "reboot_required": required,
            "notes": [*notes(config.profiles, config.kube_proxy), *dict.fromkeys(_failing(kernels))],
            **({} if kernels else {"error": complaint, "errors": [complaint]}),
        }
        say_json(document)
    elif kernels:
        say(*(line for item in kernels for line in _lines(item, brief)))
    if not kernels:
        complain(f"ipvsd: {complaint}")
        return 2
    return 0 if all(map(preflight.ready, kernels)) else 1


def _failing(kernels: Sequence[InstalledKernel]) -> Iterator[str]:
    """Yield the lines at which systemd-modules-load fails under each of the kernels."""
    yield from (note for item in kernels for note in item.notes)


def _values(kernel: InstalledKernel) -> dict[str, Any]:
    return {**present.kernel(kernel), "modules": [present.finding(finding) for finding in kernel.modules]}


def _lines(kernel: InstalledKernel, brief: bool) -> Iterator[str]:
    words = [word for word, so in (("running", kernel.running), ("next boot", kernel.next)) if so]
    roles = f" ({', '.join(words)})" if words else ""
    found = preflight.problems(kernel)
    verdict = text.colour("ready", "32") if preflight.ready(kernel) else text.colour("not ready", "31")
    if brief:
        head = f"kernel {kernel.release}{roles}: "
        ready = "ready" if preflight.ready(kernel) else "not ready"
        yield f"{head}{verdict}{_shortened(found, text.WIDTH - len(head) - len(ready))}"
        return
    yield from text.indented(f"kernel {kernel.release}{roles}: {verdict}", 0, 2)
    for affected, example in text.alike(found):
        yield from text.indented(f"! {affected} {example.verdict.value}: {example.evidence}", 2, 6)
        yield from text.indented(f"-> {example.remedy}", 6, 6)
    for note in kernel.notes:
        yield from text.indented(f"note: {note}", 2, 6)


def _shortened(found: Sequence[ModuleFinding], width: int) -> str:
    """Return as many of the problems as fit, at least their number."""
    for shown in range(len(found), -1, -1):
        names = ", ".join(f"{finding.name} {finding.verdict.value}" for finding in found[:shown])
        told = f"; {names} and {len(found) - shown} more" if shown < len(found) else f"; {names}"
        if shown and len(told) <= width:
            return told
    return f"; {len(found)} modules cannot be had" if found else ""
