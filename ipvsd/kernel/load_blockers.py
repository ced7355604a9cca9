"""Find out why modules are absent: obstacles to modprobe in the files of a root, and restrictions of the kernel.

These functions raise rootfs.UnreadableError if a file of modprobe cannot be read.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Mapping
from errno import EACCES
from typing import NamedTuple, Optional

from ipvsd.kernel.module_tree import ModuleTree, Stamp, modprobe_d_stamps, releases, stamp, version
from ipvsd.model.types import Cause, Kernel, LoadBlocker, LoadRestrictions
from ipvsd.modprobe import kconfig, load_steps, modprobe_d
from ipvsd.modprobe.modprobe_d import Settings
from ipvsd.runtime import rootfs

_CAP_SYS_MODULE = 1 << 16  # <linux/capability.h>
_ALL_IDS = "0 0 4294967295"  # the content of uid_map in the initial user namespace (user_namespaces(7))
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Files that a module creates in /proc, whether it was loaded or is built in.
_BUILTIN_MARKERS = {
    "ip_vs": "proc/sys/net/ipv4/vs",
    "nf_conntrack": "proc/sys/net/netfilter/nf_conntrack_max",
    "br_netfilter": "proc/sys/net/bridge",
}
_MAX_KCONFIG_BYTES = 1 << 24  # bytes of a kernel configuration; Debian's has 300 kB
_MODULE_FILE = r"([A-Za-z0-9_-]+)\.ko(?:\.(?:gz|xz|zst))?\Z"


class ModprobeResults(NamedTuple):
    """The result of modprobe by requested name. A name that modprobe does not find is in none of the mappings."""

    aliases: Mapping[str, str]
    blockers: Mapping[str, LoadBlocker]
    install_commands: Mapping[str, LoadBlocker]
    pulled_in_by: Mapping[str, str]
    loadable: frozenset[str]
    built_in: frozenset[str]


def read_settings(root: str, tree: ModuleTree, command_line: str = "") -> Settings:
    """Read the configuration of libkmod: modprobe.d, with the tree's modules.softdep by name, and a command line."""
    paths = {os.path.basename(path): path for path in modprobe_d_stamps(root)}
    paths["modules.softdep"] = f"{tree.path}/modules.softdep"
    ordered = [paths[name] for name in sorted(paths)]
    texts = ((os.path.join(root, path), rootfs.text(root, path) or "") for path in ordered)
    return modprobe_d.settings(texts, command_line)


def query_modprobe(
    names: Collection[str], tree: ModuleTree, settings: Settings, live: Collection[str]
) -> ModprobeResults:
    """Return the result of modprobe for each of `names`, while the `live` modules are loaded.

    A `blacklist` line has no effect on a module that another of `names` depends on.
    """
    aliases: dict[str, str] = {}
    blockers: dict[str, LoadBlocker] = {}
    install_commands: dict[str, LoadBlocker] = {}
    loaded: dict[str, frozenset[str]] = {}
    context = load_steps.Context(settings, tree)
    for name in names:
        for found in itertools.islice(context.probes(name), 1):
            if found.module != name:
                aliases[name] = found.module
            outcome = load_steps.simulate(found, tree, settings, live)
            if outcome.blocker is not None:
                blockers[found.module] = outcome.blocker
            else:
                loaded[found.module] = outcome.loaded
            for module, line in load_steps.commands(found, live):
                install_commands.setdefault(found.module, LoadBlocker(Cause.INSTALL, module, str(line), line.origin))
    known = (*names, *aliases.values())
    forbidden = [module for module, item in blockers.items() if item.cause is Cause.BLACKLIST]
    users_of = {module: [user for user, brings in loaded.items() if module in brings] for module in forbidden}
    pulled_in_by = {module: users[0] for module, users in users_of.items() if users}
    return ModprobeResults(
        aliases,
        {module: item for module, item in blockers.items() if module not in pulled_in_by},
        install_commands,
        pulled_in_by,
        frozenset(name for name in known if tree.depends(name)),
        frozenset(filter(tree.built_in, known)),
    )


class LoadBlockers:
    def __init__(self, root: str, running: bool = True, command_line: Optional[str] = None) -> None:
        """`running` means that the queried kernel is the running one, if a kernel runs."""
        self._root, self._running, self._command_line = root, running, command_line
        self._other_kernels = _OtherKernels(root)
        self._key: object = None
        self._tree: Optional[ModuleTree] = None
        self._results = ModprobeResults({}, {}, {}, {}, frozenset(), frozenset())
        self._options_key: object = None
        self._options: Mapping[str, str] = {}
        self._unindexed = _UnindexedModules()

    def explain(self, kernel: Kernel, names: Collection[str], live: Collection[str]) -> Kernel:
        """Return the kernel with all known reasons why `names` are not loaded, while the `live` modules are."""
        found = self._query_modprobe(kernel.release, names, live)
        loadable = kernel.loadable | found.loadable
        built_in = kernel.built_in | found.built_in
        modules = [found.aliases.get(name, name) for name in names]
        absent = [name for name in modules if name not in loadable | built_in]
        kernel = kernel._replace(
            loadable=loadable,
            built_in=built_in,
            aliases=found.aliases,
            load_blockers=found.blockers,
            install_commands=found.install_commands,
            pulled_in_by=found.pulled_in_by,
            restrictions=self._read_restrictions(),
        )
        gone = {name: item.module for name, item in found.blockers.items() if item.cause is Cause.FILE_MISSING}
        if not absent and not gone:
            return kernel
        kernel = self._with_other_kernels(kernel, (*absent, *gone))
        return self._with_absent(kernel, absent, tuple(dict.fromkeys(gone.values())))

    def _with_absent(self, kernel: Kernel, absent: Collection[str], gone: Collection[str]) -> Kernel:
        """Add the facts about modules that are in no index of the kernel, or whose file is missing."""
        tree = ModuleTree(self._root, kernel.release)
        options = self._kernel_options(kernel.release, tree)
        kconfig_built_in = kconfig.built_in(options, absent)
        evidence = dict(kconfig_built_in)
        for name in absent if self._running else ():
            place = _BUILTIN_MARKERS.get(name)
            if place and name not in evidence and rootfs.exists(self._root, place):
                evidence[name] = f"/{place} exists"
        absent = [name for name in absent if name not in evidence]
        unindexed = self._unindexed.update(self._root, tree.path, (*absent, *gone))
        compressed = {name: tree.unreadable_compression(file) for name, file in unindexed.found.items()}
        return kernel._replace(
            built_in=kernel.built_in | frozenset(evidence),
            built_in_evidence=evidence,
            has_own_modules=unindexed.has_own_modules,
            unindexed=unindexed.found,
            compressed={name: compression for name, compression in compressed.items() if compression},
            kconfig_unset=kconfig.unset_options(options, absent),
        )

    def _with_other_kernels(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        trees = self._other_kernels.find(kernel.release, names) if self._running else {}
        having = {name: tuple(release for release, modules in trees.items() if name in modules) for name in names}
        having = {name: found for name, found in having.items() if found}
        return kernel._replace(in_other_kernels=having, other_releases=tuple(trees))

    def _query_modprobe(self, release: str, names: Collection[str], live: Collection[str]) -> ModprobeResults:
        tree = ModuleTree(self._root, release)
        command_line = self._command_line if self._command_line is not None else self._text("proc/cmdline") or ""
        stamps = tuple(modprobe_d_stamps(self._root).items())
        key = (release, tree.path, tree.stamps, stamps, command_line, tuple(names), frozenset(live))
        if key != self._key or self._tree is None or not self._tree.valid:
            settings = read_settings(self._root, tree, command_line)
            self._results = query_modprobe(names, tree, settings, live)
            self._key, self._tree = key, tree
            tree.forget()
        return self._results

    def _kernel_options(self, release: str, tree: ModuleTree) -> Mapping[str, str]:
        paths = [f"boot/config-{release}", f"{tree.path}/config"]
        if self._running and release == (self._text("proc/sys/kernel/osrelease") or "").strip():
            paths.append("proc/config.gz")
        key = tuple((path, stamp(self._root, path)) for path in paths)
        if key != self._options_key:
            texts = (_read_kconfig(self._root, path) for path in paths)
            text = next((text for text in texts if text is not None), "")
            self._options, self._options_key = kconfig.options(text), key
        return self._options

    def _read_restrictions(self) -> LoadRestrictions:
        bounding = re.search(r"^CapBnd:\s*([0-9a-f]{1,16})$", self._text("proc/self/status") or "", re.MULTILINE)
        demands = []
        lockdown = re.search(r"\[(integrity|confidentiality)\]", self._text("sys/kernel/security/lockdown") or "")
        if lockdown:
            demands.append(f"lockdown={lockdown[1]}")
        if (self._text("sys/module/module/parameters/sig_enforce") or "").startswith("Y"):
            demands.append("module.sig_enforce=1")
        if (self._text(_SECURE_BOOT) or "").endswith("\x01"):
            demands.append("Secure Boot")
        return LoadRestrictions(
            disabled=(self._text("proc/sys/kernel/modules_disabled") or "").strip() == "1",
            incapable=bounding is not None and not int(bounding[1], 16) & _CAP_SYS_MODULE,
            nested=(self._text("proc/self/uid_map") or _ALL_IDS).split() != _ALL_IDS.split(),
            signed=", ".join(demands),
        )

    def _text(self, path: str) -> Optional[str]:
        return rootfs.text_if_permitted(self._root, path)


class _UnindexedModules:
    """Files in a kernel's tree that its index does not list. The tree is read again only after a change."""

    def __init__(self) -> None:
        self._key: object = None
        self._stamps: Mapping[str, Stamp] = {}
        self.found: Mapping[str, str] = {}
        self.has_own_modules = False  # whether the tree contains any module of the kernel itself

    def update(self, root: str, tree: str, names: Collection[str]) -> _UnindexedModules:
        key = (tree, tuple(names))
        if key != self._key or any(stamp(root, path) != was for path, was in self._stamps.items()):
            self._key, self.found, self._stamps, self.has_own_modules = None, {}, {}, False
            self._walk(root, tree, names)
            self._key = key
        return self

    def _walk(self, root: str, top: str, names: Collection[str]) -> None:
        found: dict[str, str] = {}
        stamps: dict[str, Stamp] = {top: stamp(root, top)}
        for directory, files in rootfs.walk(root, top):
            stamps[directory] = stamp(root, directory)
            for name in files:
                match = re.match(_MODULE_FILE, name)
                module = match[1].replace("-", "_") if match else ""
                # A purged kernel leaves updates/ with modules of DKMS behind, which is not a module tree.
                own = bool(module) and directory.startswith(os.path.join(top, "kernel"))
                self.has_own_modules = self.has_own_modules or own
                if module in names:
                    found[module] = os.path.join(root, directory, name)
        self.found, self._stamps = found, stamps


class _OtherKernels:
    """The other installed kernels with their modules, read again after a change of their indexes."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._key: object = None
        self._found: Mapping[str, frozenset[str]] = {}

    def find(self, release: str, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Return which of `names` each other kernel has, by release, the oldest first."""
        trees = [ModuleTree(self._root, name) for name in releases(self._root) if name != release]
        key = (release, tuple(names), tuple((tree.release, tree.stamps) for tree in trees))
        if key != self._key:
            indexed = sorted((tree for tree in trees if tree.indexed), key=lambda tree: version(tree.release))
            self._found = {tree.release: _modules_of(tree, names) for tree in indexed}
            self._key = key
        return self._found


def _modules_of(tree: ModuleTree, names: Collection[str]) -> frozenset[str]:
    present = frozenset(name for name in names if tree.depends(name) or tree.built_in(name))
    tree.forget()
    return present


def _read_kconfig(root: str, path: str) -> Optional[str]:
    from ipvsd.kernel import module_compression  # needed only for missing modules

    try:
        data = rootfs.content(root, path, _MAX_KCONFIG_BYTES)
    except rootfs.UnreadableError as error:
        if error.errno != EACCES:
            raise
        return None
    found = None if data is None else module_compression.decompress(data, _MAX_KCONFIG_BYTES)
    return None if found is None else found.decode("utf-8", "replace")
