"""ipvsd preflight: whether each installed kernel could satisfy the configuration, before it is booted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from ipvsd.boot import installed_kernels
from ipvsd.commands import formatting
from ipvsd.commands.output import print_errors, print_json, print_lines
from ipvsd.config import config_files
from ipvsd.config.profiles import notes
from ipvsd.decide import health
from ipvsd.model.report import InstalledKernel
from ipvsd.model.types import ModuleFinding
from ipvsd.model.value_texts import text_of
from ipvsd.reporting import status_document


def run(root: str, config_path: Optional[str], output: str, kernel: Optional[str], brief: bool) -> int:
    """Exit 0 if every checked kernel could, 1 if one could not, 2 if there is none to check."""
    config = config_files.load(root, config_path)
    kernels = installed_kernels.assess_all(root, config, kernel)
    required = kernel is None and installed_kernels.reboot_required(kernels, installed_kernels.running_release(root))
    place = installed_kernels.modules_directory(root)
    complaint = f"cannot check the kernels: missing kernel in {place} (install a kernel, or use --root)"
    if kernel:
        complaint = f"cannot check kernel {kernel}: unknown kernel (not in {place}; install the kernel, or use --root)"
    if output == "json":
        failing = (note for item in kernels for note in item.notes)
        document = {
            "kernels": [_values(item) for item in kernels],
            "reboot_required": required,
            "notes": [*notes(config.profiles, config.kube_proxy), *dict.fromkeys(failing)],
            **({} if kernels else {"error": complaint, "errors": [complaint]}),
        }
        print_json(document)
    elif kernels:
        print_lines(*(line for item in kernels for line in _lines(item, brief)))
    if not kernels:
        print_errors(f"ipvsd: {complaint}")
        return 2
    return 0 if all(map(health.could_be_ready, kernels)) else 1


def _values(kernel: InstalledKernel) -> dict[str, Any]:
    return {
        **status_document.encode_kernel(kernel),
        "modules": [status_document.encode_finding(finding) for finding in kernel.modules],
    }


def _lines(kernel: InstalledKernel, brief: bool) -> Iterator[str]:
    words = [word for word, applies in (("running", kernel.running), ("next boot", kernel.boots_next)) if applies]
    roles = f" ({', '.join(words)})" if words else ""
    found = installed_kernels.unobtainable_modules(kernel)
    ready, code = ("ready", "32") if health.could_be_ready(kernel) else ("not ready", "31")
    verdict = formatting.colour(ready, code)
    if brief:
        head = f"kernel {kernel.release}{roles}: "
        yield f"{head}{verdict}{_shortened(found, formatting.WIDTH - len(head) - len(ready))}"
        return
    yield from formatting.indented(f"kernel {kernel.release}{roles}: {verdict}", 0, 2)
    for affected, example in formatting.group_alike(found):
        yield from formatting.indented(f"! {affected} {text_of(example.verdict)}: {example.evidence}", 2, 6)
        yield from formatting.indented(f"-> {example.remedy}", 6, 6)
    for note in kernel.notes:
        yield from formatting.indented(f"note: {note}", 2, 6)


def _shortened(found: Sequence[ModuleFinding], width: int) -> str:
    """Return as many of the problems as fit, at least their number."""
    for shown in range(len(found), -1, -1):
        names = ", ".join(f"{finding.name} {text_of(finding.verdict)}" for finding in found[:shown])
        suffix = f"; {names} and {len(found) - shown} more" if shown < len(found) else f"; {names}"
        if shown and len(suffix) <= width:
            return suffix
    return f"; {len(found)} modules unavailable" if found else ""
