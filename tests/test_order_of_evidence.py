"""Every combination of causes has one verdict, that of the most specific one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from ipvsd.decide.verdicts import judge_module
from ipvsd.model.types import Cause, Kernel, LoadBlocker, LoadRestrictions, ModuleState
from ipvsd.model.verdicts import ModuleVerdict as V
from tests.samples import kernel, observed, wanted_module

LINE = {"ip_vs": LoadBlocker(Cause.BLACKLIST, "ip_vs", "blacklist ip_vs", "x:1")}
GONE = {"ip_vs": LoadBlocker(Cause.FILE_MISSING, "nf_conntrack", "nf_conntrack.ko")}

# Each verdict with its cause. The first one in a combination is reported.
OF_WHAT_IS_LISTED: Mapping[V, Mapping[str, Any]] = {
    V.LIVE: {}, V.BUILT_IN: {"built_in": frozenset(["ip_vs"])}, V.UNLOADING: {},
    V.NO_MODULE_SUPPORT: {"modular": False}, V.CAPABILITY_MISSING: {"incapable": True},
    V.BLACKLISTED: {"load_blockers": LINE}, V.MODULES_DISABLED: {"disabled": True},
}  # fmt: skip
OF_WHAT_IS_NOT: Mapping[V, Mapping[str, Any]] = {
    V.BUILT_IN: {"built_in": frozenset(["ip_vs"])},
    V.NOT_BUILT: {"kconfig_unset": {"ip_vs": "contains '# CONFIG_IP_VS is not set'"}},
    V.NO_MODULE_SUPPORT: {"modular": False},
    V.CAPABILITY_MISSING: {"incapable": True},
    V.MODULE_TREE_MISSING: {"indexed": False, "has_own_modules": False},
    V.COMPRESSION_UNSUPPORTED: {"compressed": {"ip_vs": "zstd"}, "unindexed": {"ip_vs": "ip_vs.ko.zst"}},
    V.INDEX_STALE: {"unindexed": {"ip_vs": "ip_vs.ko"}},
}


def with_all(seen: Kernel, changes: list[Mapping[str, Any]]) -> Kernel:
    for change in changes:
        lock = {key: value for key, value in change.items() if key in LoadRestrictions._fields}
        seen = seen._replace(**{key: value for key, value in change.items() if key not in lock})
        seen = seen._replace(restrictions=seen.restrictions._replace(**lock))
    return seen


def named(chosen: tuple[V, ...]) -> str:
    return "+".join(verdict.value for verdict in chosen)


def combinations(causes: Mapping[V, Mapping[str, Any]]) -> list[tuple[V, ...]]:
    return [chosen for size in range(1, len(causes) + 1) for chosen in itertools.combinations(causes, size)]


@pytest.mark.parametrize("chosen", combinations(OF_WHAT_IS_LISTED), ids=named)
def test_the_most_specific_cause_for_a_listed_module_is_reported(chosen: tuple[V, ...]) -> None:
    states = {V.LIVE: ModuleState.LIVE, V.UNLOADING: ModuleState.GOING}
    state = next((states[verdict] for verdict in chosen if verdict in states), None)
    seen = with_all(kernel(loadable=("ip_vs",)), [OF_WHAT_IS_LISTED[verdict] for verdict in chosen])
    assert judge_module(wanted_module(), observed(seen, {"ip_vs": state} if state else {})).verdict is chosen[0]


@pytest.mark.parametrize("chosen", combinations(OF_WHAT_IS_NOT), ids=named)
def test_the_most_specific_cause_for_an_unlisted_module_is_reported(chosen: tuple[V, ...]) -> None:
    seen = with_all(kernel(), [OF_WHAT_IS_NOT[verdict] for verdict in reversed(chosen)])
    found = judge_module(wanted_module(), observed(seen)).verdict
    # If the module's file exists, the tree is not missing, but has no index.
    unindexed = {V.COMPRESSION_UNSUPPORTED, V.INDEX_STALE} & set(chosen)
    expected = chosen[0]
    if expected is V.MODULE_TREE_MISSING and unindexed:
        expected = V.COMPRESSION_UNSUPPORTED if V.COMPRESSION_UNSUPPORTED in unindexed else V.NO_INDEX
    assert found is expected


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"indexed": False, "unindexed": {"ip_vs": "ip_vs.ko"}}, V.NO_INDEX),
        ({"indexed": False}, V.ABSENT),
        ({}, V.ABSENT),
        ({"loadable": frozenset(["ip_vs"]), "load_blockers": GONE}, V.FILE_MISSING),
        ({"loadable": frozenset(["ip_vs"]), "load_blockers": GONE, "restrictions": LoadRestrictions(disabled=True)},
         V.FILE_MISSING),
        ({"loadable": frozenset(["ip_vs"]), "load_blockers": GONE, "restrictions": LoadRestrictions(nested=True)},
         V.CAPABILITY_MISSING),
        ({"built_in": frozenset(["ip_vs"]), "indexed": False, "has_own_modules": False}, V.BUILT_IN),
    ],
)  # fmt: skip
def test_other_combinations(changes: dict[str, Any], verdict: V) -> None:
    assert judge_module(wanted_module(), observed(kernel()._replace(**changes))).verdict is verdict
