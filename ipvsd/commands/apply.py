"""ipvsd apply: make the node right once, without a daemon."""

from __future__ import annotations

import os
import sys
import time

from ipvsd import configfiles, present
from ipvsd.commands.check import make_report, show
from ipvsd.daemon import UNSETTLED
from ipvsd.host import LinuxHost
from ipvsd.reconcile import Reconciled, look, reconcile

EX_USAGE = 64
EX_NOPERM = 77


def run(root: str, only: str | None, output: str) -> int:
    """Exit 0 if everything required is right afterwards, else 1; 77 if there is work and no right to do it."""
    if root != "/":
        print("ipvsd: cannot apply below another root: modules and sysctls are the running kernel's", file=sys.stderr)
        return EX_USAGE
    host, config = LinuxHost(root), configfiles.load(root, only)
    if os.geteuid() != 0 and look(host, config)[1].actions:
        print(
            "ipvsd: cannot change the kernel: not root (run it with sudo; 'ipvsd plan' needs no root)", file=sys.stderr
        )
        return EX_NOPERM
    done = reconcile(host, config, {}, time.monotonic)
    for pause in UNSETTLED:
        if done.unsettled:
            time.sleep(pause)
            done = reconcile(host, config, {}, time.monotonic)
    report = make_report(root, done.kernel, done.after)
    if output == "text":
        _tell(done)
    show(present.document(report), output)
    return 1 if report.health.exit_code else 0


def _tell(done: Reconciled) -> None:
    for action in done.proved:
        print(action)
    if done.proved:
        print()
