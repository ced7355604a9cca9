"""The states ready, degraded and failed, and the one line for operators."""

from __future__ import annotations

import pytest

from ipvsd.decide.health import ago, assess
from ipvsd.model.report import Health, Repair, State
from ipvsd.model.types import Finding, Need, Policy
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from tests.samples import NOW, module, sysctl


def health(*findings: Finding) -> Health:
    return assess(findings, None, NOW)


MV, SV = ModuleVerdict, SysctlVerdict


@pytest.mark.parametrize(
    ("finding", "state"),
    [
        *(
            pytest.param(module(verdict), State.READY, id=f"module {verdict.value}")
            for verdict in (MV.LIVE, MV.BUILT_IN)
        ),
        *(
            pytest.param(module(verdict, need=need), state, id=f"{need.value} module {verdict.value}")
            for verdict in MV
            if verdict not in (MV.LIVE, MV.BUILT_IN)
            for need, state in ((Need.REQUIRED, State.FAILED), (Need.OPTIONAL, State.DEGRADED))
        ),
        pytest.param(module(MV.NOT_BUILT, need=Need.IF_SHIPPED), State.READY, id="scheduler not shipped"),
        pytest.param(module(MV.LOAD_FAILED, need=Need.IF_SHIPPED), State.DEGRADED, id="shipped scheduler fails"),
        pytest.param(sysctl(), State.READY, id="sysctl compliant"),
        *(
            pytest.param(sysctl(verdict), State.FAILED, id=f"required sysctl {verdict.value}")
            for verdict in SV
            if verdict is not SV.COMPLIANT
        ),
        *(
            pytest.param(sysctl(verdict, required=False), State.DEGRADED, id=f"optional sysctl {verdict.value}")
            for verdict in (SV.NONCOMPLIANT, SV.NOT_KEPT, SV.WRITE_FAILED, SV.UNREADABLE)
        ),
        pytest.param(sysctl(SV.PENDING, required=False), State.READY, id="optional sysctl pending"),
        pytest.param(sysctl(SV.UNSUPPORTED, required=False), State.READY, id="optional sysctl unsupported"),
        pytest.param(
            sysctl(SV.NONCOMPLIANT, required=False, policy=Policy.OBSERVE), State.DEGRADED, id="observed sysctl wrong"
        ),
    ],
)
def test_one_thing_decides_the_state(finding: Finding, state: State) -> None:
    fine = (module(name="other"), sysctl(key="net.other"))
    assert health(*fine, finding).state is state


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        pytest.param((module(),), 0, id="ready"),
        pytest.param((module(MV.ABSENT, need=Need.OPTIONAL),), 0, id="degraded"),
        pytest.param((module(MV.ABSENT),), 1, id="failed"),
        pytest.param((sysctl(SV.UNREADABLE),), 2, id="cannot tell"),
        pytest.param((sysctl(SV.UNREADABLE), sysctl(SV.NONCOMPLIANT)), 1, id="failed, and cannot tell all"),
        pytest.param((), 0, id="nothing wanted"),
    ],
)
def test_the_exit_code(findings: tuple[Finding, ...], code: int) -> None:
    assert health(*findings).exit_code == code


@pytest.mark.parametrize(
    ("findings", "summary"),
    [
        ([module(), sysctl(), sysctl(key="net.b")], "ready: 1 module, 2 sysctls compliant"),
        ([module(), module(MV.NOT_BUILT, "x", Need.IF_SHIPPED)], "ready: 1 module, 0 sysctls compliant"),
        ([module(), module(MV.ABSENT, "x", remedy="apt install it")], "failed: x absent: apt install it"),
        ([module(), module(MV.ABSENT, "x", Need.OPTIONAL, "apt install it")],
         "degraded: 1 module, 0 sysctls compliant; x absent: apt install it"),
        ([module(MV.MODULE_TREE_MISSING, name, remedy="reboot") for name in ("ip_vs", "ip_vs_rr")],
         "failed: ip_vs, ip_vs_rr module tree missing: reboot"),
        ([module(MV.LOAD_FAILED, name, remedy=name) for name in ("a", "b", "c")],
         "failed: a load failed: a; b load failed: b; and 1 more, see here"),
    ],
    ids=["ready", "an unavailable item", "failed", "degraded", "one cause", "many causes"],
)  # fmt: skip
def test_the_line_contains_counts_problems_and_remedies(findings: list[Finding], summary: str) -> None:
    assert assess(findings, None, NOW, more=", see here").summary == summary
    assert health(*findings).summary == summary.replace(", see here", "")


def test_the_line_contains_the_last_repair_and_its_age() -> None:
    repair = Repair("net.a", "0", "1", NOW - 180, 0.1)
    summary = "ready: 0 modules, 1 sysctl compliant; last repair net.a 0 -> 1, 3 min ago"
    assert assess([sysctl()], repair, NOW).summary == summary


@pytest.mark.parametrize("text", ["caf\u00e9 \u2713", "a\nREADY=1", "a\0b", "\x1b[31m", "\u2028", "\ud800"])
@pytest.mark.parametrize("state", ["failed", "degraded"])
def test_the_line_is_one_printable_line_whatever_is_found(text: str, state: str) -> None:
    need = Need.REQUIRED if state == "failed" else Need.OPTIONAL
    line = assess([module(MV.LOAD_FAILED, need=need, remedy=text)], Repair("x", text, "1", NOW, 0.0), NOW).summary
    assert line.startswith(state)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5.0, "under 1 min ago"), (0.0, "under 1 min ago"), (59.9, "under 1 min ago"), (60.0, "1 min ago"),
        (7199.0, "119 min ago"), (7200.0, "2 h ago"), (172799.0, "47 h ago"), (172800.0, "2 days ago"),
    ],
)  # fmt: skip
def test_an_age_is_readable_for_people(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_the_line_names_some_of_many_and_counts_the_rest() -> None:
    absent = [module(MV.ABSENT, name=f"xt_{number}") for number in range(20)]
    assert health(*absent).summary.startswith("failed: xt_0, xt_1, xt_2, xt_3, xt_4, xt_5 and 14 more absent")
    assert health(*absent[:6]).summary.startswith("failed: xt_0, xt_1, xt_2, xt_3, xt_4, xt_5 absent")
