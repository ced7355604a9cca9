"""The effect of modprobe on a tree of a few modules. tests/differential uses modprobe itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Optional

import pytest

from ipvsd.model.types import Cause
from ipvsd.modprobe import load_steps
from ipvsd.modprobe.modprobe_d import Settings, settings


class Tree(NamedTuple):
    """A module tree. `needs` contains the dependencies, the one to load first at the end."""

    needs: Mapping[str, Sequence[str]]
    aliases: Mapping[str, Sequence[str]] = {}
    symbols: Mapping[str, Sequence[str]] = {}
    inside: Collection[str] = ()
    aliases_inside: Mapping[str, Sequence[str]] = {}
    gone: Collection[str] = ()
    zipped: Collection[str] = ()
    refused: Collection[str] = ("number",)  # options, with values

    def depends(self, module: str) -> Sequence[str]:
        return [f"{name}.ko" for name in (module, *self.needs[module])] if module in self.needs else ()

    def aliased(self, name: str) -> Sequence[str]:
        return self.aliases.get(name, ())

    def exporting(self, symbol: str) -> Sequence[str]:
        return self.symbols.get(symbol, ())

    def built_in(self, module: str) -> bool:
        return module in self.inside

    def built_in_aliased(self, name: str) -> Sequence[str]:
        return self.aliases_inside.get(name, ())

    def exists(self, file: str) -> bool:
        return file.partition(".")[0] not in self.gone

    def unsupported_compression(self, file: str) -> str:
        return "zstd" if file.partition(".")[0] in self.zipped else ""

    def accepts(self, file: str, parameter: str, value: Optional[str]) -> bool:
        return not file or (parameter if value is None else f"{parameter}={value}") not in self.refused


TREE = Tree(
    {"top": ("middle", "low"), "middle": ("low",), "low": (), "other": ()},
    {"an_alias": ["top"], "two": ["low", "other"]},
    {"symbol:of_low": ["low"]}, ["core"], {"alias_of_core": ["core"]},
)  # fmt: skip


def steps(name: str, text: str = "", extra: str = "") -> list[str]:
    found = load_steps.probe(name, settings([("f", text)]), TREE, extra)
    shown = []
    for step in (step for item in found for step in item.steps):
        what = f"run {step.command.rest}" if step.command else step.file
        shown.append(f"{what} {step.options}".strip() + ("" if step.required else " (soft)"))
    return shown


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param("top", "", "low.ko, middle.ko, top.ko", id="dependencies first"),
        pytest.param("t-op", "", "", id="not found"),
        pytest.param("core", "", "", id="built in"),
        pytest.param("alias_of_core", "", "", id="an alias of what is built in"),
        pytest.param("an-alias", "", "low.ko, middle.ko, top.ko", id="an alias of the index"),
        pytest.param("two", "", "low.ko, other.ko", id="an alias of two modules"),
        pytest.param("symbol:of_low", "", "low.ko", id="a symbol"),
        pytest.param("low", "alias low other", "other.ko", id="modprobe.d comes before the index"),
        pytest.param("x", "alias x y\nalias y low", "", id="an alias is not resolved again"),
        pytest.param("x", "install x one", "run one", id="a name that only an install line has"),
        pytest.param("middle", "install low one\noptions low a=1", "run one a=1, middle.ko", id="install, options"),
        pytest.param("low", "softdep low pre: other post: middle", "other.ko (soft), low.ko, low.ko, middle.ko (soft)",
                     id="soft dependencies"),
        pytest.param("low", "softdep low pre: other\ninstall low one", "other.ko (soft), low.ko", id="softdep"),
        pytest.param("low", "softdep low pre: low gone", "low.ko", id="a circle, and what there is not"),
        pytest.param("an_alias", "options an_alias a\noptions top b", "low.ko, middle.ko, top.ko a b", id="both"),
    ],
)  # fmt: skip
def test_the_steps_of_a_name(name: str, text: str, expected: str) -> None:
    assert ", ".join(steps(name, text)) == expected


def test_the_parameters_of_whoever_asks_come_last() -> None:
    assert steps("middle", "options middle a=1\noptions low b=2", "a=3") == ["low.ko b=2", "middle.ko a=1 a=3"]


@pytest.mark.parametrize(
    ("name", "text", "live", "tree", "cause"),
    [
        ("top", "", "", TREE, None),
        ("top", "blacklist top", "", TREE, Cause.BLACKLIST),
        ("top", "blacklist low", "", TREE, None),
        ("top", "install low true", "", TREE, Cause.INSTALL),
        ("top", "install low true", "low", TREE, None),
        ("top", "install low modprobe -i low", "", TREE, None),
        ("top", "install top true", "top", TREE, None),
        ("top", "softdep top pre: other\ninstall other false", "", TREE, None),
        ("x", "alias x nothing", "", TREE, Cause.ALIAS),
        ("x", "alias x core", "", TREE, None),
        ("top", "", "", TREE._replace(gone=["low"]), Cause.FILE_MISSING),
        ("top", "", "low", TREE._replace(gone=["low"]), Cause.FILE_MISSING),  # middle is ignored as well
        ("middle", "", "low", TREE._replace(gone=["low"]), None),
        ("top", "", "", TREE._replace(gone=["middle"]), Cause.FILE_MISSING),
        ("top", "", "", TREE._replace(gone=["top"]), Cause.FILE_MISSING),
        ("top", "", "", TREE._replace(zipped=["middle"]), Cause.COMPRESSION),
        ("top", "options low number", "", TREE, Cause.OPTIONS),
        ("top", "options low number=1", "", TREE, None),
    ],
)
def test_obstacles_to_loading_a_module(name: str, text: str, live: str, tree: Tree, cause: Optional[Cause]) -> None:
    said = settings([("f", text)])
    (found,) = load_steps.probe(name, said, tree)
    done = load_steps.simulate(found, tree, said, live.split())
    assert (done.blocker.cause if done.blocker else None) is cause
    assert (found.module in done.loaded or found.built_in) is (cause is None)


def test_plain_modprobe_obeys_a_blacklist_for_what_is_reached_through_an_alias_alone() -> None:
    said = settings([("f", "blacklist top")])
    for name, obeyed in (("top", False), ("an_alias", True)):
        (found,) = load_steps.probe(name, said, TREE)
        assert (load_steps.simulate(found, TREE, said, (), blacklist=False).blocker is not None) is obeyed
        assert load_steps.simulate(found, TREE, said, ()).blocker is not None


@pytest.mark.parametrize(
    ("said", "cause", "module", "loaded"),
    [
        pytest.param(settings([("f", "install middle false")]), Cause.INSTALL, "middle", {"core", "low"}, id="install"),
        pytest.param(settings([], "module_blacklist=low"), Cause.COMMAND_LINE, "low", {"core"}, id="command line"),
    ],
)
def test_modules_loaded_before_a_blocked_one_stay_loaded(
    said: Settings, cause: Cause, module: str, loaded: set[str]
) -> None:
    (found,) = load_steps.probe("top", said, TREE)
    done = load_steps.simulate(found, TREE, said, ["core"])
    assert done.blocker is not None
    assert (done.blocker.cause, done.blocker.module, set(done.loaded)) == (cause, module, loaded)


@pytest.mark.parametrize("option", ["number", "letter=x"])
def test_an_invalid_option_is_named_with_its_line(option: str) -> None:
    tree, line = TREE._replace(refused=[option]), f"options top fine=1 {option}"
    said = settings([("f", line)])
    (found,) = load_steps.probe("top", said, tree)
    blocker = load_steps.simulate(found, tree, said, ()).blocker
    assert blocker is not None
    assert (blocker.cause, blocker.detail, blocker.text) == (Cause.OPTIONS, option, line)
