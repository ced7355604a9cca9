"""Installed kernels, and whether each can satisfy the configuration, judged by its indexes.

These functions raise rootfs.UnreadableError if it is unknown whether files exist.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional

from ipvsd.config.desired_state import build_desired, candidates, pattern_rules
from ipvsd.config.schema import Config
from ipvsd.decide import remedies
from ipvsd.decide.health import obtainable
from ipvsd.decide.planner import plan
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.module_tree import ModuleTree, modprobe_d_stamps, stamp, version
from ipvsd.kernel.module_tree import releases as trees
from ipvsd.kernel.roots import classify_root
from ipvsd.model.report import InstalledKernel
from ipvsd.model.types import (
    MISSING,
    Action,
    Kernel,
    LoadModule,
    LoadRestrictions,
    ModuleFinding,
    ModuleState,
    Need,
    Observed,
    Plan,
    Policy,
    RootKind,
    SysctlFinding,
    WriteSysctl,
)
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reconcile.observation import lacking
from ipvsd.runtime import rootfs
from ipvsd.runtime.journal import log
from ipvsd.sysctl.values import value_to_write

if TYPE_CHECKING:
    from ipvsd.boot.next_boot import Boot

DAY = 86400.0

# Links to the image that a boot loader without its own default uses (Debian, Ubuntu).
_LINKS = ("vmlinuz", "boot/vmlinuz")
# The boot loader's default as set by grubby and kernel-install (Fedora, EL): saved_entry=MACHINE-RELEASE.
_GRUBENV = ("boot/grub2/grubenv", "boot/grub/grubenv")


def releases(root: str) -> tuple[str, ...]:
    """Return the releases in /lib/modules, the oldest first."""
    names = [name for name in trees(root) if any(rootfs.is_file(root, path) for path in _kernel_files(root, name))]
    return tuple(sorted(names, key=version))


def _kernel_files(root: str, release: str) -> Iterator[str]:
    """Yield the files of which an installed kernel, but not the leftovers of a purged one, has at least one."""
    tree = ModuleTree(root, release).path
    yield from (f"{tree}/{name}" for name in ("modules.dep", "modules.builtin", "modules.order", "vmlinuz"))
    yield f"boot/vmlinuz-{release}"


def next_release(root: str, known: Sequence[str]) -> str:
    """Return which of the known kernels the next boot uses, or an empty text if that is unknown."""
    for path in _LINKS:
        target = os.path.basename(rootfs.read_link(root, path) or "")
        if target.partition("-")[2] in known:
            return target.partition("-")[2]
    for path in _GRUBENV:
        entry = re.search(r"^saved_entry=(.+)$", rootfs.text_if_permitted(root, path) or "", re.MULTILINE)
        found = [release for release in known if entry and entry[1].endswith(f"-{release}")]
        if found:
            return found[0]
    return known[0] if len(known) == 1 else ""


def running_release(root: str) -> str:
    """Return the release of the running kernel, or an empty text for a root without one."""
    if classify_root(root) is RootKind.FIRST_BOOT:
        return ""
    return (rootfs.text(root, "proc/sys/kernel/osrelease") or "").strip()


def examine(root: str, config: Config, release: str, cpus: int = 0, names: Collection[str] = ()) -> tuple[Kernel, Plan]:
    """Return the plan for the given kernel, as if it ran and had loaded nothing. Every sysctl is pending.

    `cpus` is their number in an image, which that of the build machine does not determine. `names` are sysctls of
    interfaces that may exist.
    """
    image, cmdline = classify_root(root) is RootKind.FIRST_BOOT, None
    if image:
        from ipvsd.boot.kernel_command_line import command_line
        from ipvsd.conflicts.file_tree import FileTree

        cmdline = command_line(FileTree(root), RootKind.FIRST_BOOT, release)
    host = LinuxHost(root, release=release, command_line=cmdline)
    if release not in releases(root) and release == running_release(root):
        host = LinuxHost(root)  # without a module tree, only the running kernel shows what is built in
    kernel = host.kernel(candidates(config))
    if image or cpus:
        kernel = kernel._replace(cpus=cpus or 1)
    nothing: Mapping[str, ModuleState] = {}
    want = build_desired(config, kernel, nothing, _expected_sysctls(root, config, kernel, names))
    kernel = host.explain(kernel, lacking(want, kernel, nothing))._replace(restrictions=LoadRestrictions())
    planned = plan(want._replace(sysctls=(), parameters=()), Observed(kernel, nothing, {}))
    # A module that is not loaded needs no remedy here.
    modules = tuple(found._replace(remedy="") if obtainable(found) else found for found in planned.modules)
    readings = (MISSING if image else host.read_sysctl(wanted.key) for wanted in want.sysctls)
    values = (reading if isinstance(reading, str) else None for reading in readings)
    pairs = zip(want.sysctls, values)
    sysctls = tuple(SysctlFinding(*pair, SysctlVerdict.PENDING, "no kernel is running") for pair in pairs)
    return kernel, remedies.adapt(Plan((), modules, sysctls), root)


def _expected_sysctls(
    root: str, config: Config, kernel: Kernel, names: Collection[str]
) -> Mapping[str, Collection[str]]:
    """Return the matching sysctls of each pattern that files or `names` name, and the pattern itself."""
    wanted = [spread.wanted.key for spread in pattern_rules(config, kernel)]
    if not wanted:
        return {}
    from ipvsd.conflicts import networkd, sysctl_d
    from ipvsd.conflicts.file_tree import FileTree

    tree = FileTree(root)
    named = [reader.find_named(tree, wanted) for reader in (sysctl_d, networkd)]
    named.append(sysctl_d.find_matching_names(wanted, map(sysctl_d.path_of, names)))
    found = {pattern: (key for keys in named for key in keys[pattern]) for pattern in wanted}
    return {pattern: tuple(dict.fromkeys((pattern, *keys))) for pattern, keys in found.items()}


def modules_directory(root: str) -> str:
    return os.path.join(root, "lib/modules")


def boot_release(root: str) -> str:
    """Return the release of the kernel that a root will boot, or else that of the kernel that runs there, or ""."""
    known = releases(root)
    return next_release(root, known) or (known[-1] if known else running_release(root))


class FirstBoot(NamedTuple):
    """An image after its first boot. `boot` explains the state, and `possible` is the plan without it."""

    kernel: Kernel
    plan: Plan
    boot: Boot
    possible: Plan


def predict_first_boot(root: str, config: Config, names: Collection[str] = ()) -> Optional[FirstBoot]:
    """Predict an image after its first boot, or return None without a kernel. `names` are those of `examine`."""
    release = boot_release(root)
    if not release:
        return None
    from ipvsd.boot.next_boot import names_of, plan_after_boot, predict  # for images, and long after the start

    kernel, found = examine(root, config, release, names=names)
    boot = predict(root, kernel, names_of(found))
    after_boot = plan_after_boot(boot, found, kernel, root)
    return FirstBoot(kernel, after_boot._replace(actions=_actions(after_boot)), boot, found)


def _actions(after_boot: Plan) -> tuple[Action, ...]:
    loadable = [found for found in after_boot.modules if found.verdict is ModuleVerdict.LOADABLE]
    loads = [LoadModule(found.name, "" if found.module == found.name else found.module) for found in loadable]
    writes = [
        WriteSysctl(found.name, found.actual or "", value_to_write(found.desired.want, found.actual or ""))
        for found in after_boot.sysctls
        if found.verdict is SysctlVerdict.NONCOMPLIANT and found.desired.policy is not Policy.OBSERVE
    ]
    return (*writes, *loads)


def assess_all(root: str, config: Config, only_release: Optional[str] = None) -> tuple[InstalledKernel, ...]:
    """Return the assessment of every kernel, or of `only_release`, with the running one if it needs no module tree."""
    known, running = releases(root), running_release(root)
    found = {release: _assess(root, config, release) for release in known if only_release in (None, release)}
    if running not in ("", *known):
        assessment = _assess(root, config, running)
        if not lacks_tree(assessment[0]):
            known = (*known, running)
            found.update({running: assessment} if only_release in (None, running) else {})
    following = next_release(root, known)
    return tuple(
        InstalledKernel(release, release == running, release == following, *found[release])
        for release in sorted(found, key=version)
    )


def _assess(root: str, config: Config, release: str) -> tuple[tuple[ModuleFinding, ...], tuple[str, ...]]:
    """Return the modules that are obtainable under a kernel before its boot disables loading, and failing lines."""
    from ipvsd.boot.next_boot import names_of, notes, plan_without_ipvsd, predict

    kernel, found = examine(root, config, release)
    boot = predict(root, kernel, names_of(found))
    without_ipvsd = plan_without_ipvsd(boot, found, kernel, root).modules
    pairs = zip(found.modules, without_ipvsd)
    modules = tuple(last if last.verdict is ModuleVerdict.MODULES_DISABLED else first for first, last in pairs)
    return modules, notes(boot)


def lacks_tree(modules: Iterable[ModuleFinding]) -> bool:
    """Return whether a kernel cannot be judged, because it needs a module tree and has none."""
    return any(found.verdict is ModuleVerdict.MODULE_TREE_MISSING for found in modules)


def failing_lines(root: str, release: str) -> tuple[str, ...]:
    from ipvsd.boot.next_boot import notes, predict
    from ipvsd.conflicts.external_setting import Names

    return notes(predict(root, LinuxHost(root, release=release).kernel(()), Names()))


def unobtainable_modules(kernel: InstalledKernel) -> tuple[ModuleFinding, ...]:
    wanted = (finding for finding in kernel.modules if finding.desired.need is not Need.IF_SHIPPED)
    return tuple(finding for finding in wanted if not obtainable(finding))


def reboot_required(kernels: Sequence[InstalledKernel], running: str) -> bool:
    """Return whether the next boot uses another kernel, or the modules of the running one are missing."""
    following = [kernel.release for kernel in kernels if kernel.boots_next]
    gone = running not in [kernel.release for kernel in kernels]
    return bool(kernels and running) and (gone or following not in ([], [running]))


class KernelInventory:
    """Assesses the kernels after one was installed or removed, and once a day. `kernels` is the last result."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._key: object = None
        self._updated_at = 0.0
        self._unreadable = ""
        self.kernels: tuple[InstalledKernel, ...] = ()

    def update(self, config: Config) -> None:
        """Assess the kernels if necessary. If a file cannot be read, log this once, and keep the former result."""
        try:
            self._update(config)
        except rootfs.UnreadableError as error:
            if str(error) != self._unreadable:
                log("warning", f"cannot check the installed kernels: {error}")
            self._unreadable, self._key = str(error), None
        else:
            self._unreadable = ""

    def _update(self, config: Config) -> None:
        now = time.monotonic()
        key = (config, _stamps(self._root))
        if key != self._key or now - self._updated_at >= DAY:
            self.kernels = assess_all(self._root, config)
            self._key, self._updated_at = key, now


def _stamps(root: str) -> tuple[object, ...]:
    from ipvsd.conflicts import modules_load, sysctl_d

    paths = [f"{ModuleTree(root, release).path}/modules.dep.bin" for release in releases(root)]
    # The files that determine loaded modules and the disabling of module loading.
    for place in (*modules_load.DIRECTORIES, *sysctl_d.DIRECTORIES):
        paths += [f"{place}/{name}" for name in sorted(rootfs.names(root, place))]
    found = [(path, stamp(root, path)) for path in (*paths, *_LINKS, *_GRUBENV)]
    return (*found, *modprobe_d_stamps(root).items())
