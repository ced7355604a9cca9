"""The one JSON document. Later versions only add keys."""

from __future__ import annotations

import json

import pytest

from ipvsd import __version__
from ipvsd.model.report import Health, State
from ipvsd.model.types import Need
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reporting.status_document import build_document, format_time, with_age
from tests.samples import module, report, sysctl

FINDING = {
    "required": False, "compliant": False, "tolerated": False, "remedy": "", "origin": "profile test",
    "last_verdict": None,
}  # fmt: skip
GOLDEN = {
    "version": __version__, "time": "2027-01-15T08:00:00.000Z", "boottime": 4321.0, "age": 0.0, "reconciliations": 0,
    "state": "ready", "summary": "ready: all of it", "kernel": "6.1.0-50-cloud-amd64", "root_kind": "running_kernel",
    "notes": [], "kernels": [],
    "modules": [
        {**FINDING, "name": "ip_vs_sh", "verdict": "absent", "evidence": "seen so", "remedy": "install it",
         "module": "ip_vs_sh"},
    ],
    "parameters": [],
    "sysctls": [
        {**FINDING, "name": "net.ipv4.ip_forward", "required": True, "verdict": "noncompliant", "evidence": "read so",
         "desired": "1", "actual": "0", "policy": "enforce", "members": None},
    ],
    "contended": [
        {"name": "net.ipv4.vs.conntrack", "conflicting_program": "agent[7]", "attribution": "likely", "yielded": False},
    ],
    "repairs": [
        {"name": "net.ipv4.ip_forward", "actual": "0", "desired": "1", "time": "2027-01-15T07:58:30.000Z",
         "seconds": 0.0021, "writer_text": "sysctl[4242] of cron.service", "attribution": "certain",
         "writer": {"pid": 4242, "comm": "sysctl", "unit": "cron.service", "container": "", "pod": ""}},
    ],
    "failures": [], "backend": "bpf", "events_lost": 3,
    "sources": [
        {"name": "uevents", "up": True, "detail": "kernel uevents", "events_lost": 3},
        {"name": "config_files", "up": False, "detail": "no inotify", "events_lost": None},
    ],
    "ipvs": {"up": True, "version": "1.2.1", "table_size": 4096, "detail": "responded"},
    "web_certificate_expiry": None,
    "config": {
        "hash": "0123456789ab", "profiles": ["kube-proxy-ipvs"], "files": ["/etc/ipvsd/ipvsd.yaml"], "interval": 60.0,
        "errors": [],
    },
}  # fmt: skip


def test_the_document_is_as_promised() -> None:
    absent = module(ModuleVerdict.ABSENT, "ip_vs_sh", Need.OPTIONAL, "install it")
    made = build_document(report(absent, sysctl(SysctlVerdict.NONCOMPLIANT, found="0")))
    assert made == GOLDEN
    assert list(made) == list(GOLDEN)


def test_an_absent_value_or_configuration_is_null() -> None:
    made = build_document(report(module(), sysctl(SysctlVerdict.PENDING, found=None))._replace(config=None))
    assert (made["sysctls"][0]["actual"], made["config"]) == (None, None)
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_the_expiry_of_the_certificate_is_a_time() -> None:
    made = build_document(report(module())._replace(web_certificate_expiry=1_800_000_000.0))
    assert made["web_certificate_expiry"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9999, "1970-01-01T00:00:01.999Z"),
        (1_800_000_000.25, "2027-01-15T08:00:00.250Z"),
    ],
)
def test_a_time_is_utc_to_the_millisecond(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_a_served_report_has_its_age() -> None:
    made = report(module())
    now = made.boottime + 119.5
    assert build_document(with_age(made, now)) == {**build_document(made), "age": 119.5}
    assert with_age(made, made.boottime - 1.0).age == 0.0


def test_a_verdict_older_than_two_intervals_is_not_valid() -> None:
    made = report(module())
    old = with_age(made, made.boottime + 120.5)
    line = "failed: outdated result: the last reconciliation was 120 s ago (last state: ready: all of it)"
    assert old.health == Health(State.FAILED, line, 2)
    assert build_document(old)["state"] == "failed"
