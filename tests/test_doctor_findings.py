"""The findings of ipvsd doctor, from facts: kube-proxy's mode, scheduler, table and log, and the node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import pytest

from ipvsd.config.parser import parse
from ipvsd.config.schema import Config
from ipvsd.discovery.processes import Kind, Process
from ipvsd.discovery.running import KubeProxy
from ipvsd.doctor import conntrack, containment, daemon, denials, interfaces, kube_proxy, redaction, remains, sections
from ipvsd.doctor.conntrack import ConntrackFacts
from ipvsd.doctor.daemon import DaemonFacts
from ipvsd.doctor.finding import Finding, Severity, by_severity, exit_code
from ipvsd.doctor.kube_proxy import ProxyFacts
from ipvsd.kernel.virtual_services import Table
from ipvsd.kube_proxy import log_errors
from ipvsd.kube_proxy.answers import Healthz, Settings
from ipvsd.model.types import LoadRestrictions

GUIDE = (Path(__file__).parents[1] / "docs/troubleshooting.md").read_text()
UNIT = Process(7, "kube-proxy", Kind.PROCESS, "kube-proxy.service", flags={"config": "/etc/kube-proxy.yaml"})
POD = Process(7, "kube-proxy", Kind.POD, "", "ab" * 32, "0-0", flags={"config": "/var/lib/kube-proxy/config.conf"})
K3S = Process(7, "k3s-server", Kind.EMBEDDED, "k3s.service", host_program="k3s")
RKE2 = Process(7, "kube-proxy", Kind.STATIC_POD, "", "ab" * 32, "00", "rke2")
STATIC = Process(7, "kube-proxy", Kind.STATIC_POD, "", "ab" * 32, "00")
ALONE = Process(7, "kube-proxy", Kind.PROCESS)


def proxy(mode: str = "ipvs", requested: str = "ipvs", process: Process = UNIT, **more: Any) -> KubeProxy:
    """Return a kube-proxy that has run for an hour."""
    settings = Settings(requested, more.pop("scheduler", "rr"), strict_arp=False, origin="/configz")
    return KubeProxy(process, 3600.0, settings, settings, mode, metrics_url="http://127.0.0.1:10249", **more)


def found(
    running: Optional[KubeProxy], services: int = 3, log: str = "", config: Optional[Config] = None
) -> Sequence[Finding]:
    """Return the findings about a kube-proxy on a node with two schedulers. `log` is a line of its start."""
    error = log_errors.explain(log) if log else None
    facts = ProxyFacts(running, Table(services), {"ip_vs_rr", "ip_vs_lc"}, start_error=error, logged=error)
    return list(kube_proxy.findings(facts, config or Config()))


CASES = {
    "healthy": (proxy(), 3, "", None),
    "fallback": (proxy("iptables"), 0, "", "mode_mismatch"),
    "no mode": (proxy("iptables", ""), 0, "", "mode_not_ipvs"),
    "another mode": (proxy("nftables", "nftables"), 0, "", "mode_not_ipvs"),
    "invalid mode": (proxy("iptables", "IPVS"), 0, "", "mode_not_ipvs"),
    "scheduler without a module": (proxy("iptables", scheduler="mh"), 0, "", "scheduler_unavailable"),
    "unknown scheduler": (proxy(scheduler="round-robin"), 0, "", "scheduler_unavailable"),
    "emptied table": (proxy(), 0, "", "table_empty"),
    "scheduler of another configuration": (proxy(scheduler="lc"), 3, "", "configurations_differ"),
    "unhealthy": (proxy(healthz=Healthz(False)), 3, "", "kube_proxy_unhealthy"),
    "being deleted": (proxy(healthz=Healthz(False, node_eligible=False)), 3, "", "node_not_eligible"),
    "deprecated": (proxy(version=(1, 36)), 3, "", "ipvs_mode_deprecated"),
    "an error while it runs": (
        proxy(),
        3,
        "E1 Failed to execute iptables-restore",
        "kube_proxy_iptables_restore_failed",
    ),
    "an error of its start": (proxy(), 3, "E1 can't use the IPVS proxier: x", None),
    "ended with an error": (None, 0, "E1 can't use the IPVS proxier: x", "kube_proxy_ipvs_unusable"),
    "ended": (None, 0, "", None),
    "ended with another error": (None, 0, "E1 Failed to execute iptables-restore", None),
}


@pytest.mark.parametrize(("running", "services", "log", "expected"), CASES.values(), ids=CASES)
def test_the_cause_is_first(running: Optional[KubeProxy], services: int, log: str, expected: Optional[str]) -> None:
    findings = found(running, services, log)

    assert [item.id for item in findings][:1] == ([expected] if expected else [])
    for item in findings:
        assert item.evidence
        assert item.fix
        assert not item.section or f"\n## {item.section}\n" in GUIDE


def test_a_scheduler_that_the_profile_loads_is_not_reported_as_unmanaged() -> None:
    (item,) = found(proxy(scheduler="lc"))

    assert item.explanation == "ipvsd loads ip_vs_lc, but does not require it"


@pytest.mark.parametrize(
    ("process", "change", "restart"),
    [
        (UNIT, "set 'mode: ipvs' in /etc/kube-proxy.yaml", "systemctl restart kube-proxy.service"),
        (POD, "kubectl -n kube-system edit configmap kube-proxy", "kill 7"),
        (
            K3S,
            "'kube-proxy-arg: [\"proxy-mode=ipvs\"]' in /etc/rancher/k3s/config.yaml",
            "systemctl restart k3s.service",
        ),
        (RKE2, "in /etc/rancher/rke2/config.yaml", "kill 7"),
        (STATIC, "add --proxy-mode=ipvs to the command in the manifest of the static pod", "kill 7"),
        (ALONE, "add --proxy-mode=ipvs to the command line", "kill 7"),
    ],
    ids=["unit", "pod", "k3s", "rke2", "static pod", "alone"],
)
def test_the_fix_fits_the_way_in_which_it_runs(process: Process, change: str, restart: str) -> None:
    (wrong,) = found(proxy("iptables", "iptables", process))
    (fallback,) = found(proxy("iptables", "ipvs", process))

    assert change in wrong.fix
    assert f"run '{restart}'" in fallback.fix


@pytest.mark.parametrize("running", [proxy("iptables", "iptables"), proxy(version=(1, 36))])
def test_the_fix_of_a_profile_names_the_line_that_sets_it(running: KubeProxy) -> None:
    config = parse([("/etc/ipvsd/conf.d/x.yaml", b"\nprofiles: [kube-proxy-ipvs]\n")])

    (shipped,) = found(running)
    (changed,) = found(running, config=config)

    assert "' in /etc/ipvsd/ipvsd.yaml" in shipped.fix
    assert "' in /etc/ipvsd/conf.d/x.yaml:2" in changed.fix


@pytest.mark.parametrize(
    ("mode", "effect"), [("ipvs", "no virtual service"), ("iptables", "before 1.26"), (None, "1.26 and later exits")]
)
def test_the_effect_of_a_missing_scheduler_is_that_on_this_kube_proxy(mode: Optional[str], effect: str) -> None:
    finding = found(replace(proxy(scheduler="mh"), mode=mode))[0]

    assert effect in finding.explanation


def test_the_reason_of_a_fallback_is_its_evidence() -> None:
    line = "E1 required kernel modules are not loaded: [ip_vs_sh]"

    (finding,) = found(proxy("iptables"), log=line)

    assert finding.evidence[-1].endswith(line)
    assert finding.section == log_errors.LOAD_MODULES


def test_the_status_of_the_daemon_shows_what_one_observation_cannot() -> None:
    status = {
        "config": {"interval": 60.0, "errors": ["file:1: x: invalid"]},
        "contended": [{"name": "net.ipv4.ip_forward", "conflicting_program": "tuned[5] of tuned.service"}],
        "sysctls": [{"name": "net.ipv4.ip_forward", "origin": "/etc/ipvsd/conf.d/x.yaml:2"}],
        "failures": [{"operation": "listen", "error": "127.0.0.1:14787: Address already in use"}],
    }

    found = list(daemon.findings(DaemonFacts(status, 150.0)))

    assert [item.id for item in found] == [
        "daemon_outdated",
        "sysctl_contended",
        "daemon_operation_failed",
        "configuration_rejected",
    ]
    assert found[1].evidence == ("changed by tuned[5] of tuned.service",)
    assert found[1].fix.endswith("for this sysctl in /etc/ipvsd/conf.d/x.yaml:2")
    assert [item.id for item in daemon.findings(DaemonFacts(unusable="damaged"))] == ["status_unusable"]
    assert list(daemon.findings(DaemonFacts())) == []


DAY = 86400


@pytest.mark.parametrize(
    ("expiry", "days", "expected"),
    [
        ("2026-12-01T00:00:00.000Z", -8, None),
        ("2026-12-01T00:00:00.000Z", -6, "web_certificate_expiring"),
        ("2026-12-01T00:00:00.000Z", 1, "web_certificate_expired"),
        (None, 1, None),
        ("damaged", 1, None),
    ],
)
def test_a_certificate_that_expires_is_a_warning(expiry: Optional[str], days: int, expected: Optional[str]) -> None:
    status = {"config": {"interval": 60.0, "errors": []}, "contended": [], "failures": []}
    now = datetime(2026, 12, 1, tzinfo=timezone.utc).timestamp() + days * DAY

    found = list(daemon.findings(DaemonFacts({**status, "web_certificate_expiry": expiry}, 0.0, now)))

    assert [item.id for item in found] == ([expected] if expected else [])
    assert all(item.severity is Severity.WARNING and "2026-12-01 00:00:00 UTC" in item.summary for item in found)
    assert list(daemon.findings(DaemonFacts(status, 0.0, now))) == []  # of an older daemon


def test_names_in_a_fix_are_safe_for_a_shell() -> None:
    line = 'avc:  denied  { read } for pid=1 comm="ipset;reboot" name="x"'
    denial = denials.parse(line)
    assert denial is not None

    (finding,) = denials.findings([denial])

    assert "-c 'ipset;reboot'" in finding.fix
    assert log_errors.explain("required kernel modules are not loaded: [ip_vs; reboot]") is None


def test_chains_of_ipvs_mode_are_not_remains() -> None:
    saved = "".join(f":{name} - [0:0]\n" for name in ("KUBE-SERVICES", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER"))

    assert remains.iptables_chains(saved) == ()


def test_a_table_that_was_full() -> None:
    (found,) = conntrack.findings(ConntrackFacts(10, 1000, ["nf_conntrack: table full, dropping packet"]), Config())

    assert found.summary == "the table of tracked connections was full since the boot (now 1%)"


def test_another_network_namespace_is_the_first_cause() -> None:
    facts = containment.PlaceFacts("", "net:[2]", "net:[1]")

    (found,) = containment.findings(facts, LoadRestrictions())

    assert (found.id, found.severity) == ("other_network_namespace", Severity.ERROR)
    assert list(containment.findings(containment.PlaceFacts("", "net:[1]", "net:[1]"), LoadRestrictions())) == []


def test_a_container_without_permission_to_load_modules() -> None:
    facts = containment.PlaceFacts("/run/systemd/container: docker")

    assert [item.id for item in containment.findings(facts, LoadRestrictions(incapable=True))] == ["container"]


def test_the_most_severe_finding_comes_first_and_decides_the_exit_code() -> None:
    note, warning, unknown, error = (Finding(item.value, item, "") for item in reversed(Severity))

    assert list(by_severity([note, warning, unknown, error])) == [error, unknown, warning, note]
    assert [exit_code(found) for found in ([], [note, warning], [note, unknown], [unknown, error])] == [0, 0, 2, 1]


def test_ordinary_texts_are_not_removed() -> None:
    for text in (
        "open /proc/sys/net/netfilter/nf_conntrack_max: no such file or directory",
        "CONFIG_IP_VS=m",
        "/lib/modules/6.1.0-50-cloud-amd64/kernel/net/netfilter/ipvs/ip_vs.ko: absent",
        "net.ipv4.vs.expire_quiescent_template = 1",
        "install ip_vs /bin/false",
    ):
        assert redaction.redact(text) == text


def test_every_section_of_the_code_is_a_heading_of_the_guide() -> None:
    named = {value for name, value in vars(sections).items() if name.isupper()}
    named |= {known.section for known in log_errors.KNOWN}
    headings = re.findall(r"^## (.+)$", GUIDE, re.MULTILINE)

    assert named - set(headings) == set()
    assert len(headings) == len(set(headings))


def test_managers_of_the_interface() -> None:
    assert interfaces.networkd_manages("ADMIN_STATE=configuring\n") == "ADMIN_STATE=configuring"
    assert interfaces.networkd_manages("") == interfaces.networkmanager_manages("") == ""
