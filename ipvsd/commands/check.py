"""ipvsd check: observe once, print, change nothing."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Optional

from ipvsd.boot import installed_kernels, next_boot
from ipvsd.commands import formatting, kube_proxy_line
from ipvsd.commands.output import EX_CANNOT_TELL, print_errors, print_json, print_lines
from ipvsd.config import config_files
from ipvsd.config.profiles import notes
from ipvsd.config.schema import Config
from ipvsd.decide import remedies
from ipvsd.decide.aggregate import by_pattern, reported
from ipvsd.decide.health import assess
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.ipvs_probe import probe
from ipvsd.kernel.roots import classify_root
from ipvsd.model import printable
from ipvsd.model.report import Ipvs, Report
from ipvsd.model.types import Kernel, Plan, RootKind, SysctlFinding
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.reporting import notices, router_advertisements, status_document
from ipvsd.reporting.counters import EMPTY
from ipvsd.state import status_file


def run(root: str, config_path: str | None, output: str) -> int:
    """Exit 0 if all required items are compliant, 1 if not, 2 if that is unknown."""
    config = config_files.load(root, config_path)
    found = observe(root, config)
    if found is None:
        return EX_CANNOT_TELL
    report = make_report(root, found.kernel, found.plan, found.notes)
    running = report.root_kind is not RootKind.FIRST_BOOT
    proxy = kube_proxy_line.observe(root, kube_proxy_line.managed_by(report, config.profiles)) if running else None
    show({**status_document.build_document(report), "kube_proxy": proxy}, output)
    return report.health.exit_code


class Observation(NamedTuple):
    kernel: Kernel
    plan: Plan
    notes: tuple[str, ...]


def observe(root: str, config: Config) -> Optional[Observation]:
    """Observe a node, or predict an image after its first boot. Report an image without a kernel, and return None."""
    if classify_root(root) is RootKind.FIRST_BOOT:
        found = installed_kernels.predict_first_boot(root, config)
        if found is None:
            problem = f"missing kernel in {installed_kernels.modules_directory(root)}"
            print_errors(f"ipvsd: cannot check {root}: {problem} (install a kernel in the image)")
            return None
        notes_of_image = collect_notes(root, config, found.kernel, found.plan, found.possible)
        return Observation(found.kernel, found.plan, (*notes_of_image, *next_boot.notes(found.boot)))
    kernel, plan = observe_and_plan(LinuxHost(root), config)
    installed = kernel.release in installed_kernels.releases(root)
    failing = installed_kernels.failing_lines(root, kernel.release) if installed else ()
    return Observation(kernel, plan, (*collect_notes(root, config, kernel, plan, plan), *failing))


def collect_notes(root: str, config: Config, kernel: Kernel, plan: Plan, possible: Plan) -> tuple[str, ...]:
    """Return the notes about a node. `possible` is the plan without a boot under its kernel."""
    return (
        *notes(config.profiles, config.kube_proxy),
        *router_advertisements.notes_of_tree(root, plan),
        *next_boot.notes_about_unread_file(root),
        *notices.check_persisted(root, config, kernel, possible).notes,
    )


def make_report(root: str, kernel: Kernel, plan: Plan, notes: tuple[str, ...]) -> Report:
    """Return the report of one observation. It includes IPVS if that can be queried."""
    plan = adapt_remedies(plan, root)
    answer = Ipvs(False, detail="the ip_vs module is not live")
    if any(finding.name == "ip_vs" and finding.compliant for finding in plan.modules):
        image = classify_root(root) is RootKind.FIRST_BOOT
        reason = "no kernel is running" if image else "the tree belongs to a different kernel"
        answer = probe() if root == "/" else Ipvs(None, detail=f"not queried, because {reason}")
    now = time.time()
    return Report(
        time=now,
        boottime=time.clock_gettime(time.CLOCK_BOOTTIME),
        kernel=kernel,
        modules=plan.modules,
        sysctls=by_pattern(plan.sysctls),
        parameters=plan.parameters,
        health=assess(reported(plan), None, now),
        counters=EMPTY,
        ipvs=answer,
        notes=notes,
        root_kind=classify_root(root),
    )


def adapt_remedies(plan: Plan, root: str) -> Plan:
    missing = [finding for finding in plan.sysctls if finding.verdict is SysctlVerdict.UNSUPPORTED]
    names = [finding.name for finding in missing if not finding.desired.pattern]
    directories = {name: f"{name.rpartition('.')[0]}.*" for name in names}
    siblings = LinuxHost(root).expand(set(directories.values()))

    def suggested(finding: SysctlFinding) -> SysctlFinding:
        if finding.name not in directories:
            return finding
        others = siblings[directories[finding.name]]
        return finding._replace(remedy=remedies.for_unsupported(finding.desired, others))

    plan = plan._replace(sysctls=tuple(map(suggested, plan.sysctls)))
    return remedies.adapt(plan, root, daemon=root == "/" and status_file.exists(root))


def show(document: dict[str, Any], output: str) -> None:
    if output == "json":
        print_json(document)
        return
    document = printable.clean_document(document)
    print_lines(
        *formatting.situation(document),
        *formatting.summary(document),
        formatting.ipvs(document),
        *filter(None, [kube_proxy_line.text(document.get("kube_proxy"))]),
        *formatting.notes(document),
        *formatting.findings(document),
    )
