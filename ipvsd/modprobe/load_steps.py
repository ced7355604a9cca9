"""The effect of `modprobe NAME`: the modules that a name resolves to, the steps to load them, and their obstacles.

The rules are those of libkmod (libkmod/libkmod-module.c, versions 30 to 34), which modprobe, systemd-modules-load
and ipvsd use:

- A name is looked up as an alias in modprobe.d, as a module in modules.dep, as the name of an `install` or `remove`
  line, as an alias of the index, and as a built-in module. The first result ends the search, and is not looked up
  again.
- modules.dep lists all dependencies of a module, the one to load first at the end. If the file of one of them is
  missing, libkmod ignores all of them and tries the module alone.
- `install` and soft dependencies also apply to dependencies. `blacklist` applies only to the requested module.
  Without -b, modprobe obeys it only for a module that an alias led to.
- The `install` line of a module with soft dependencies is ignored, as is the failure of a soft dependency.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Optional, Protocol

from ipvsd.model.types import Cause, LoadBlocker
from ipvsd.modprobe import modprobe_d
from ipvsd.modprobe.modprobe_d import Directive, Settings


class Tree(Protocol):
    """The module tree of one kernel, as libkmod reads it through depmod's indexes."""

    def depends(self, module: str) -> Sequence[str]:
        """Return the files of the module and its dependencies, as modules.dep lists them, or nothing."""

    def aliased(self, name: str) -> Sequence[str]:
        """Return the modules that modules.alias lists for a name."""

    def exporting(self, symbol: str) -> Sequence[str]:
        """Return the modules that modules.symbols lists for `symbol:NAME`."""

    def built_in(self, module: str) -> bool:
        """Return whether modules.builtin lists a module."""

    def built_in_aliased(self, name: str) -> Sequence[str]:
        """Return the built-in modules that modules.builtin.alias lists for a name."""

    def exists(self, file: str) -> bool:
        """Return whether a file that modules.dep lists exists."""

    def unsupported_compression(self, file: str) -> str:
        """Return the compression of a file if this system's libkmod cannot read it, otherwise an empty text."""

    def accepts(self, file: str, parameter: str, value: Optional[str]) -> bool:
        """Return whether the kernel accepts a value, or None for a missing one, or ignores an unknown parameter."""


class Step(NamedTuple):
    """Insert `file`, or run `command` in its place, or do nothing.

    `options` are the parameters of the module, or $CMDLINE_OPTS of the command. `needs` are the modules that must be
    loaded before. The failure of a step that is not `required` is ignored.
    """

    module: str
    file: str = ""
    options: str = ""
    command: Optional[Directive] = None
    needs: tuple[str, ...] = ()
    required: bool = True


class Probe(NamedTuple):
    """Loading one of the modules that a name resolves to: directly, or through `alias`, which `line` defines.

    With -b, a `blacklist` line makes libkmod execute none of the steps.
    """

    module: str
    alias: str
    built_in: bool
    blacklist: Optional[Directive]
    steps: tuple[Step, ...]
    line: Optional[Directive] = None


def probe(name: str, settings: Settings, tree: Tree, extra: str = "") -> tuple[Probe, ...]:
    """Return the steps to load a name in an empty kernel, or nothing if it is unknown. `extra` are parameters."""
    return tuple(Context(settings, tree).probes(name, extra))


class LoadOutcome(NamedTuple):
    """`loaded` are the kernel's modules after all possible steps. `blocker` is the obstacle, or None."""

    loaded: frozenset[str]
    blocker: Optional[LoadBlocker]


def simulate(
    probe: Probe, tree: Tree, settings: Settings, live: Collection[str], blacklist: bool = True
) -> LoadOutcome:
    """Return the outcome of a probe while the kernel has the `live` modules.

    `blacklist` means that the caller obeys such lines. An `install` command of unknown effect is assumed to load.
    """
    if probe.built_in or probe.module in live:
        return LoadOutcome(frozenset(live), None)
    if probe.blacklist is not None and (blacklist or probe.alias):
        return LoadOutcome(frozenset(live), _blocker_from_line(Cause.BLACKLIST, probe.module, probe.blacklist))
    loaded, blocked = set(live), dict[str, LoadBlocker]()
    for step in probe.steps:
        if step.module in loaded:
            continue
        blocker = _find_blocker(step, tree, settings, loaded, blocked)
        if blocker is None:
            loaded.add(step.module)
        elif not step.required:
            blocked[step.module] = blocker
        elif blocker.cause is Cause.NOT_FOUND and probe.line is not None and step.module == probe.module:
            return LoadOutcome(frozenset(loaded), _blocker_from_line(Cause.ALIAS, probe.module, probe.line))
        else:
            return LoadOutcome(frozenset(loaded), blocker)
    return LoadOutcome(frozenset(loaded), None)


def commands(probe: Probe, live: Collection[str]) -> Iterator[tuple[str, Directive]]:
    """Yield the modules for which a command would run, each with its `install` line."""
    return ((step.module, step.command) for step in probe.steps if step.command and step.module not in live)


def _find_blocker(
    step: Step, tree: Tree, settings: Settings, loaded: Collection[str], blocked: dict[str, LoadBlocker]
) -> Optional[LoadBlocker]:
    """Return the reason why a module is not in the kernel after a step, or None."""
    if step.command is not None:
        if modprobe_d.install_effect(step.command.rest, step.module) is not modprobe_d.InstallEffect.NOTHING:
            return None
        return _blocker_from_line(Cause.INSTALL, step.module, step.command)
    if not step.file:
        return None if tree.built_in(step.module) else LoadBlocker(Cause.NOT_FOUND, step.module)
    if not tree.exists(step.file):
        return LoadBlocker(Cause.FILE_MISSING, step.module, step.file)
    compression = tree.unsupported_compression(step.file)
    if compression:
        return LoadBlocker(Cause.COMPRESSION, step.module, step.file, detail=compression)
    for needed in step.needs:
        if needed not in loaded:
            return blocked.get(needed) or _missing_dependency(step, tree)
    if step.module in settings.kernel_blacklist:
        return LoadBlocker(Cause.COMMAND_LINE, step.module, settings.kernel_blacklist[step.module], modprobe_d.CMDLINE)
    for parameter, value in modprobe_d.parameters(step.options):
        if not tree.accepts(step.file, parameter, value):
            return _bad_option(step.module, parameter, value, settings)
    return None


def _missing_dependency(step: Step, tree: Tree) -> Optional[LoadBlocker]:
    """Return the dependency whose missing file makes libkmod ignore all dependencies."""
    for file in tree.depends(step.module)[1:]:
        if not tree.exists(file):
            return LoadBlocker(Cause.FILE_MISSING, _module_of(file), file)
    return None


def _bad_option(module: str, parameter: str, value: Optional[str], settings: Settings) -> LoadBlocker:
    detail = parameter if value is None else f"{parameter}={value}"
    for item in settings.options_of(module):
        if (parameter, value) in modprobe_d.parameters(item.rest):
            return _blocker_from_line(Cause.OPTIONS, module, item, detail)
    return LoadBlocker(Cause.OPTIONS, module, detail, detail=detail)


def _blocker_from_line(cause: Cause, module: str, line: Directive, detail: str = "") -> LoadBlocker:
    return LoadBlocker(cause, module, str(line), line.origin, detail)


def _module_of(file: str) -> str:
    """Return the module's name for a file, as libkmod derives it: up to the first dot."""
    return file.rpartition("/")[2].partition(".")[0].replace("-", "_")


class _Module:
    """libkmod's own object, one for each pair of a module and the alias that led to it."""

    def __init__(self, name: str, alias: str = "") -> None:
        self.name, self.alias = name, alias
        self.file = ""
        self.needs: tuple[str, ...] = ()
        self.dependencies: Optional[list[_Module]] = None  # None: not determined yet, or ignored
        self.built_in: Optional[bool] = None
        self.line: Optional[Directive] = None  # the line of modprobe.d that defines the alias
        self.install: Optional[Directive] = None  # the line that the lookup found
        self.passes_over_install = self.required = self.visited = False


class Context:
    """A context of libkmod: its pool of modules, and its traversal. Sharing it for many names saves most work."""

    def __init__(self, settings: Settings, tree: Tree) -> None:
        self._settings, self._tree = settings, tree
        self._pool: dict[tuple[str, str], _Module] = {}
        self._soft: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def probes(self, name: str, extra: str = "") -> Iterator[Probe]:
        for module in self._lookup(name):
            built_in = self._is_built_in(module)
            steps = () if built_in else tuple(self._steps(module, extra))
            forbidding = self._settings.blacklisted(module.name)
            yield Probe(module.name, module.alias, built_in, forbidding, steps, module.line)

    # --- lookup of names ----------------------------------------------------------------

    def _lookup(self, given: str) -> list[_Module]:
        name = modprobe_d.underscored(given)
        if name is None:
            return []
        aliases = self._settings.aliased(name)
        if aliases:
            return [self._of_alias(item) for item in aliases]
        if ":" not in name and self._tree.depends(name):
            return [self._module(name)]
        if name.startswith("symbol:"):
            found = [self._module(module, name) for module in self._tree.exporting(name)]
            if found:
                return found
        return self._lookup_lines(name) or self._lookup_indexes(name)

    def _of_alias(self, item: Directive) -> _Module:
        module = self._module(item.rest, item.pattern)
        module.line = item
        return module

    def _lookup_lines(self, name: str) -> list[_Module]:
        for item in self._settings.installs:
            if item.pattern == name:
                module = self._module(name)
                module.install = item
                return [module]
        return [self._module(name)] if any(item.pattern == name for item in self._settings.removes) else []

    def _lookup_indexes(self, name: str) -> list[_Module]:
        found = [self._module(module, name) for module in self._tree.aliased(name)]
        if found:
            return found
        own = [self._module(name)] if self._tree.built_in(name) else []
        modules = own or [self._module(module, name) for module in self._tree.built_in_aliased(name)]
        for module in modules:
            module.built_in = True
        return modules

    def _module(self, name: str, alias: str = "") -> _Module:
        return self._pool.setdefault((name, alias), _Module(name, alias))

    # --- steps --------------------------------------------------------------------------

    def _steps(self, target: _Module, extra: str) -> Iterator[Step]:
        for module in self._pool.values():
            module.visited = module.required = False
        listed: list[_Module] = []
        self._walk(target, listed, required=True)
        for module in listed:
            if self._is_built_in(module):
                continue
            command = module.install or self._settings.install(module.name)
            self._dependencies(module)  # this also sets `file`
            options = self._options(module, extra if module is target else "")
            command = None if module.passes_over_install else command
            yield Step(module.name, module.file, options, command, module.needs, module.required)

    def _walk(self, module: _Module, listed: list[_Module], required: bool = False) -> None:
        if module.visited:
            return
        module.visited = True
        dependencies = self._dependencies(module)
        if required:
            for item in (module, *dependencies):
                item.required = True
        for item in (*dependencies, module):
            self._walk_softly(item, listed)

    def _walk_softly(self, module: _Module, listed: list[_Module]) -> None:
        """List a module between its soft dependencies, even if it is already listed."""
        names = self._soft_dependencies(module.name)
        before, after = ([found for name in part for found in self._lookup(name)] for part in names)
        for item in before:
            self._walk(item, listed)
        listed.append(module)
        module.passes_over_install = bool(before or after)
        for item in after:
            self._walk(item, listed)

    def _soft_dependencies(self, module: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if module not in self._soft:
            line = self._settings.softdep(module)
            self._soft[module] = modprobe_d.soft_dependencies(line) if line else ((), ())
        return self._soft[module]

    def _dependencies(self, module: _Module) -> Sequence[_Module]:
        """Return the dependencies in the order of loading, or nothing if the file of one of them is missing."""
        if module.dependencies is None:
            files = self._tree.depends(module.name)
            if not files:
                return ()
            module.file = files[0]
            module.needs = tuple(map(_module_of, files[1:]))
            if not all(map(self._tree.exists, files[1:])):
                self._forget(files[1:])
                return ()
            module.dependencies = [self._of_file(file) for file in reversed(files[1:])]
        return module.dependencies

    def _forget(self, files: Sequence[str]) -> None:
        """Treat the dependencies before the missing one as files, not built in, like libkmod."""
        for file in itertools.takewhile(self._tree.exists, files):
            if (_module_of(file), "") in self._pool:
                self._of_file(file)

    def _of_file(self, file: str) -> _Module:
        module = self._module(_module_of(file))
        module.file, module.built_in = module.file or file, False
        return module

    def _is_built_in(self, module: _Module) -> bool:
        if module.built_in is None:
            module.built_in = self._tree.built_in(module.name)
        return module.built_in

    def _options(self, module: _Module, extra: str) -> str:
        own = " ".join(item.rest for item in self._settings.options_of(module.name, module.alias))
        # libkmod always joins both with a space, even if `extra` is empty.
        return f"{own} {extra}" if own else extra
