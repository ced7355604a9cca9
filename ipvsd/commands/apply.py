"""ipvsd apply: make the node compliant once, without a daemon."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ipvsd.boot import drop_in_files, installed_kernels, next_boot
from ipvsd.commands import formatting
from ipvsd.commands.check import collect_notes, make_report, show
from ipvsd.commands.output import EX_CANNOT_TELL, print_errors, print_json, print_lines
from ipvsd.config import config_files
from ipvsd.config.schema import Config
from ipvsd.decide.health import required
from ipvsd.kernel.host import Host, LinuxHost
from ipvsd.kernel.roots import classify_root
from ipvsd.model.report import InstalledKernel
from ipvsd.model.types import Action, Finding, Kernel, ModuleFinding, Plan, RootKind, SysctlFinding
from ipvsd.model.value_texts import text_of
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.reconcile.rounds import UNSETTLED, ReconcileResult, reconcile
from ipvsd.reporting import router_advertisements, status_document


def run(root: str, config_path: str | None, output: str, persist: bool) -> int:
    """Exit 0 if all required items are compliant afterwards, otherwise 1. Exit 77 if actions need root.

    With `persist`, the node becomes compliant at every boot. For another root, only this is possible. Exit 2 if it has
    no kernel.
    """
    if root != "/":
        if persist:
            return _persist_image(root, config_path, output)
        why = "ipvsd can change only the running kernel (for an image, add --persist)"
        print_errors(f"ipvsd: cannot apply the configuration under --root: {why}")
        return os.EX_USAGE
    host, config = LinuxHost(root), config_files.load(root, config_path)
    if os.geteuid() != 0 and (persist or observe_and_plan(host, config)[1].actions):
        why = "root required (run the command with sudo; 'ipvsd plan' does not need root)"
        print_errors(f"ipvsd: cannot apply the configuration: {why}")
        return os.EX_NOPERM
    done, proven = settle(host, config)
    persisted = None
    if persist:
        texts = drop_in_files.build(config, done.kernel, done.after)
        persisted = _persist(root, texts, *_next_boot(root, config, done))
    notes = collect_notes(root, config, done.kernel, done.after, done.after)
    report = make_report(root, done.kernel, done.after, notes)
    if output == "text" and proven:
        print_lines(*map(str, proven), "")
    actions = {"actions": [{"name": action.name, "action": str(action)} for action in proven]}
    show({**status_document.build_document(report), **actions, **(_document(persisted) if persisted else {})}, output)
    return 1 if report.health.exit_code or (persisted and not persisted.successful) else 0


class PersistResult(NamedTuple):
    """The result of writing the files. `noncompliant` are the items that the next boot leaves so without ipvsd."""

    kernel: str
    written: tuple[str, ...] = ()
    error: str = ""  # the reason why they cannot be written
    noncompliant: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def successful(self) -> bool:
        return not self.error and not self.noncompliant


def settle(
    host: Host, config: Config, pause: Callable[[float], None] = time.sleep
) -> tuple[ReconcileResult, tuple[Action, ...]]:
    """Reconcile until nothing is in progress. Return the last reconciliation, and all successful actions."""
    done = reconcile(host, config, {}, time.monotonic)
    outcomes = list(done.outcomes)
    for seconds in UNSETTLED:
        if done.unsettled:
            pause(seconds)
            done = reconcile(host, config, {}, time.monotonic)
            outcomes += done.outcomes
    right = {finding.name for finding in done.after.findings if finding.compliant}
    # In the order of the first attempt. A repeated action is reported once, in its last form.
    actions = {outcome.action.name: outcome.action for outcome in outcomes if outcome.action.name in right}
    return done, tuple(actions.values())


def _persist_image(root: str, config_path: str | None, output: str) -> int:
    config, release = config_files.load(root, config_path), installed_kernels.boot_release(root)
    kernel, plan = installed_kernels.examine(root, config, release)
    if not release or installed_kernels.lacks_tree(plan.modules):
        problem = f"missing kernel in {installed_kernels.modules_directory(root)} (install a kernel in the image)"
        print_errors(f"ipvsd: cannot write the boot configuration under {root}: {problem}")
        return EX_CANNOT_TELL
    examined = kernel, plan
    if classify_root(root) is RootKind.FIRST_BOOT:
        # The number of an image's CPUs is unknown. A value for the largest number suffices for each.
        examined = installed_kernels.examine(root, config, release, _MAX_CPUS)
    persisted = _persist(root, drop_in_files.build(config, *examined), kernel, plan)
    installed = InstalledKernel(release, running=False, boots_next=True, modules=plan.modules)
    problems = installed_kernels.unobtainable_modules(installed)
    # The required ones are already reported for the next boot.
    for names, example in formatting.group_alike(finding for finding in problems if not required(finding)):
        line = f"! {names}: {text_of(example.verdict)} in kernel {release} -> {example.remedy}"
        print_errors(*formatting.indented(line, 0, 2))
    if output == "json":
        print_json(_document(persisted))
    return 0 if persisted.successful else 1


_MAX_CPUS = 8192  # CONFIG_NR_CPUS of the distributions


def _next_boot(root: str, config: Config, done: ReconcileResult) -> tuple[Kernel, Plan]:
    release = installed_kernels.boot_release(root)
    if release in ("", done.kernel.release):
        return done.kernel, done.after
    return installed_kernels.examine(root, config, release)


def _persist(root: str, texts: Mapping[str, str], kernel: Kernel, plan: Plan) -> PersistResult:
    """Write the files, and report the items of `plan` that a boot of this kernel leaves noncompliant without ipvsd."""
    try:
        written = drop_in_files.write(root, texts)
    except OSError as error:
        persisted = PersistResult(kernel.release, error=f"cannot write {error.filename}: {error.strerror}")
        print_errors(f"ipvsd: {persisted.error}")
        return persisted
    boot = next_boot.predict(root, kernel, next_boot.names_of(plan))
    after_boot = next_boot.plan_without_ipvsd(boot, plan, kernel, root)
    noncompliant = tuple(filter(required, next_boot.noncompliant(after_boot)))
    notes = next_boot.notes(boot)
    if root != "/":  # the report of the running node already contains these
        routes = router_advertisements.notes_of_tree(root, plan)
        notes = (*notes, *routes, *next_boot.notes_about_unread_file(root))
    persisted = PersistResult(kernel.release, written, "", noncompliant, notes)
    print_errors(*_lines(persisted))
    return persisted


def _lines(persisted: PersistResult) -> Iterator[str]:
    yield from (f"wrote {path}" for path in persisted.written)
    modules = (found for found in persisted.noncompliant if isinstance(found, ModuleFinding))
    for names, example in formatting.group_alike(modules):
        yield from _lacking(f"{names} {_not_live(example)}", example, persisted.kernel)
    for found in persisted.noncompliant:
        if isinstance(found, SysctlFinding):
            yield from _lacking(_describe_fate(found), found, persisted.kernel)
    yield from (line for note in persisted.notes for line in formatting.indented(f"note: {note}", 0, 2))


def _document(persisted: PersistResult) -> dict[str, Any]:
    values = {
        "kernel": persisted.kernel,
        "written": list(persisted.written),
        "noncompliant": [status_document.encode_finding(found) for found in persisted.noncompliant],
        "notes": list(persisted.notes),
    }
    after = _AFTER.format(persisted.kernel)
    fates = (f"{_describe_fate(item)} {after}: {item.evidence} ({item.remedy})" for item in persisted.noncompliant)
    errors = [*filter(None, [persisted.error]), *fates]
    return {"persisted": values, **({"error": errors[0], "errors": errors} if errors else {})}


_AFTER = "after booting kernel {} without ipvsd"


def _not_live(found: Finding) -> str:
    return f"will not be live ({text_of(found.verdict)})"


def _describe_fate(found: Finding) -> str:
    if not isinstance(found, SysctlFinding):
        return f"{found.name} {_not_live(found)}"
    return f"{found.name} will {'not be set' if found.actual is None else f'be {found.actual}'}"


def _lacking(fate: str, found: Finding, release: str) -> Iterator[str]:
    """Yield the fate of an item after the next boot, the line of a file that causes this, and the remedy."""
    yield from formatting.indented(f"! {fate} {_AFTER.format(release)}:", 0, 2)
    yield from formatting.indented(found.evidence, 4, 6)
    if found.remedy:
        yield from formatting.indented(f"-> {found.remedy}", 4, 7)
