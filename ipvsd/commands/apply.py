"""ipvsd apply: make the node right once, without a daemon."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

from ipvsd import configfiles, persist, preflight, present
from ipvsd.commands.check import make_report, show
from ipvsd.config import Config
from ipvsd.daemon import UNSETTLED
from ipvsd.health import required
from ipvsd.host import Host, LinuxHost
from ipvsd.model import Action
from ipvsd.reconcile import Reconciled, look, reconcile
from ipvsd.report import InstalledKernel

EX_USAGE = 64
EX_NOPERM = 77


def run(root: str, only: str | None, output: str, keep: bool) -> int:
    """Exit 0 if everything required is right afterwards, else 1; 77 if there is work and no right to do it.

    With `keep` the node is made right for every boot, with ipvsd or without; another root is only ever made so.
    """
    if root != "/":
        if keep:
            return _persist_image(root, only)
        print(
            "ipvsd: cannot apply below another root: modules and sysctls are the running kernel's "
            "(for an image: --persist)",
            file=sys.stderr,
        )
        return EX_USAGE
    host, config = LinuxHost(root), configfiles.load(root, only)
    if os.geteuid() != 0 and (keep or look(host, config)[1].actions):
        print(
            "ipvsd: cannot change the kernel: not root (run it with sudo; 'ipvsd plan' needs no root)", file=sys.stderr
        )
        return EX_NOPERM
    done, proved = settle(host, config)
    kept = not keep or _write(root, persist.files(config, done.kernel, done.after))
    report = make_report(root, config, done.kernel, done.after)
    if output == "text" and proved:
        print("\n".join([*map(str, proved), ""]))
    actions = {"actions": [{"name": action.name, "action": str(action)} for action in proved]}
    show({**present.document(report), **actions}, output)
    return 1 if report.health.exit_code or not kept else 0


def settle(
    host: Host, config: Config, pause: Callable[[float], None] = time.sleep
) -> tuple[Reconciled, tuple[Action, ...]]:
    """Reconcile until nothing is under way, and return the last reconciliation with all that was done and is right."""
    done = reconcile(host, config, {}, time.monotonic)
    outcomes = list(done.outcomes)
    for seconds in UNSETTLED:
        if done.unsettled:
            pause(seconds)
            done = reconcile(host, config, {}, time.monotonic)
            outcomes += done.outcomes
    right = {finding.name for finding in done.after.findings if finding.right}
    # In the order in which they were first done; what was done again is told once, as it was done last.
    actions = {outcome.action.name: outcome.action for outcome in outcomes if outcome.action.name in right}
    return done, tuple(actions.values())


def _persist_image(root: str, only: str | None) -> int:
    """Write the files into an image, for the kernel that it will boot."""
    config, known = configfiles.load(root, only), preflight.releases(root)
    if not known:
        print(f"ipvsd: cannot persist below {root}: there is no kernel in its /lib/modules", file=sys.stderr)
        return 1
    release = preflight.next_release(root, known) or known[-1]
    kernel, plan = preflight.examine(root, config, release)
    kept = _write(root, persist.files(config, kernel, plan))
    modules = plan.modules
    for finding in preflight.problems(InstalledKernel(release, running=False, next=True, modules=modules)):
        print(f"! {finding.name} {finding.verdict.value} in kernel {release}: {finding.remedy}", file=sys.stderr)
    missing = [finding for finding in modules if required(finding) and not persist.to_be_had(finding)]
    return 1 if missing or not kept else 0


def _write(root: str, texts: Mapping[str, str]) -> bool:
    try:
        for path in persist.write(root, texts):
            print(f"wrote {path}", file=sys.stderr)
    except OSError as error:
        print(f"ipvsd: cannot persist: {error.strerror}: {error.filename}", file=sys.stderr)
        return False
    return True
