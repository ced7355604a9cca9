"""ipvsd check: look once, print, change nothing."""

from __future__ import annotations

import json
import time

from ipvsd import configfiles, present
from ipvsd.commands import text
from ipvsd.health import assess
from ipvsd.host import LinuxHost
from ipvsd.ipvs import ask
from ipvsd.model import Ipvs, Kernel, Plan, Report
from ipvsd.reconcile import look
from ipvsd.tally import EMPTY


def run(root: str, only: str | None, output: str) -> int:
    """Exit 0 if everything required is right, 1 if not, 2 if that cannot be told."""
    kernel, plan = look(LinuxHost(root), configfiles.load(root, only))
    live = any(finding.name == "ip_vs" and finding.right for finding in plan.modules)
    answer = ask() if live and root == "/" else Ipvs(None if live else False, detail="module ip_vs is not live")
    report = make_report(kernel, plan, answer)
    show(present.document(report), output)
    return report.health.exit_code


def make_report(kernel: Kernel, plan: Plan, answer: Ipvs) -> Report:
    """Return the report of a single look."""
    now = time.time()
    health = assess(plan.findings, None, now)
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Report(now, boottime, kernel, plan.modules, plan.sysctls, health, EMPTY, ipvs=answer)


def show(document: dict[str, object], output: str) -> None:
    """Print a status document."""
    if output == "json":
        print(json.dumps(document, indent=2))
        return
    print("\n".join([*text.summary(document), text.ipvs(document), *text.findings(document)]))
