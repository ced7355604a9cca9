"""ipvsd doctor on trees of broken nodes: the expected problem comes first, and a healthy node has none."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ipvsd.cli import main
from ipvsd.commands import doctor
from ipvsd.config.parser import parse
from ipvsd.config.schema import Config
from ipvsd.doctor import bundle, denials, sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.kernel import process_files
from ipvsd.kube_proxy import log_errors
from ipvsd.model.types import NOTHING
from ipvsd.runtime import http_client
from ipvsd.runtime.command_output import Output
from tests.fake_kernel import DEPENDS
from tests.kube_proxy_server import HEALTHY, PID, Answers, answers, put_kube_proxy, put_table, serving
from tests.trees import LIVE, READY, make_tree, put, put_process, put_sysctl

pytestmark = pytest.mark.system

Capture = pytest.CaptureFixture[str]
GUIDE = (Path(__file__).parents[1] / "docs/troubleshooting.md").read_text()
DEFAULT = Config()


def programs(outputs: Mapping[str, Output]) -> Callable[[Sequence[str], int, float], Output]:
    """Return a runner whose programs print these outputs, by a word of their command."""

    def run(command: Sequence[str], limit: int, seconds: float) -> Output:
        for word, output in outputs.items():
            if word in command:
                return output
        return Output(0, b"")

    return run


def examine(
    root: Path, given: Answers = NOTHING, config: Config = DEFAULT, outputs: Mapping[str, Output] = NOTHING
) -> Sequence[Finding]:
    """Examine a tree. A kube-proxy in it has these answers."""
    with serving(given) as port:
        if given:
            file = root / f"proc/{PID}/root/etc/kube-proxy.yaml"
            text = file.read_text() if file.exists() else "mode: ipvs\n"
            put_kube_proxy_again(root, port, text)
        found = doctor.diagnose(str(root), config, http_client.get, programs(outputs))
    assert found is not None
    for item in found.findings:
        assert item.summary
        assert item.fix or item.severity is Severity.NOTE, item
        assert not item.section or f"\n## {item.section}\n" in GUIDE, item.section
    return found.findings


def put_kube_proxy_again(root: Path, port: int, config: str) -> None:
    if not (root / f"proc/{PID}").exists():
        put_kube_proxy(root, port, config)
    else:
        own = re.sub(r"(?m)^(?:metrics|healthz)BindAddress.*\n", "", config)
        text = f"{own}metricsBindAddress: 127.0.0.1:{port}\nhealthzBindAddress: 127.0.0.1:{port}\n"
        put(root, f"proc/{PID}/root/etc/kube-proxy.yaml", text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "node")
    put(root, "usr/sbin/ipset", "")
    put(root, "usr/sbin/xtables-nft-multi", "")
    (root / "usr/sbin/iptables").symlink_to("xtables-nft-multi")
    put_table(root, 3)
    return root


def first(findings: Sequence[Finding]) -> str:
    return findings[0].id if findings else ""


# --- healthy nodes ----------------------------------------------------------------------


def test_a_healthy_node_has_no_finding_with_and_without_kube_proxy(tree: Path) -> None:
    assert examine(tree) == []
    assert examine(tree, answers()) == []


def test_a_healthy_node_is_one_line(tree: Path, capsys: Capture) -> None:
    assert main(["doctor", "--root", str(tree)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("no problem found: ready: ")
    assert out.endswith("; kube-proxy does not run\n")
    put_kube_proxy(tree)
    assert main(["doctor", "--root", str(tree)]) == 0
    with_kube_proxy = capsys.readouterr().out
    assert with_kube_proxy.endswith("; kube-proxy: mode ipvs (configured), scheduler rr, 3 virtual services\n")
    assert (out.count("\n"), with_kube_proxy.count("\n")) == (1, 1)


def test_a_kube_proxy_that_has_just_started_has_an_empty_table(tree: Path) -> None:
    put_table(tree, 0)
    put_kube_proxy(tree, age=5)

    assert examine(tree, answers()) == []


@pytest.mark.parametrize(("interface", "expected"), [(False, ""), (True, "table_empty")])
def test_an_interface_shows_that_the_table_was_filled(interface: bool, expected: str, tree: Path) -> None:
    put_table(tree, 0)
    put_kube_proxy(tree, age=10)
    if interface:
        put(tree, "sys/class/net/kube-ipvs0/ifindex", "7\n")

    assert first(examine(tree, answers())) == expected


# --- kube-proxy -------------------------------------------------------------------------


def test_the_wrong_mode_after_a_fallback(tree: Path) -> None:
    line = b"E1127 Can't use the IPVS proxier: required kernel modules are not loaded: [ip_vs_rr]\n"
    found = examine(tree, answers(mode="iptables"), outputs={f"_PID={PID}": Output(0, line)})

    assert first(found) == "mode_mismatch"
    assert found[0].section == log_errors.LOAD_MODULES
    assert any("required kernel modules" in text for text in found[0].evidence)
    assert "systemctl restart kube-proxy.service" in found[0].fix


@pytest.mark.parametrize(("requested", "text"), [("", "sets no mode"), ("iptables", "requests iptables")])
def test_a_configuration_that_does_not_request_ipvs(requested: str, text: str, tree: Path) -> None:
    put_kube_proxy(tree, config=f"mode: '{requested}'\n")

    found = examine(tree, answers(mode="iptables", requested=requested))

    assert first(found) == "mode_not_ipvs"
    assert text in found[0].summary
    assert "set 'mode: ipvs' in /etc/kube-proxy.yaml" in found[0].fix


def test_another_mode_is_right_with_another_profile(tree: Path) -> None:
    put(tree, "proc/net/ip_vs", "")
    put_kube_proxy(tree, config="mode: nftables\n")
    config = parse([("file", b"profiles: [lvs-full]\n")])

    found = examine(tree, answers(mode="nftables", requested="nftables"), config)

    assert not [item for item in found if item.id.startswith("mode")]


def test_a_changed_configuration_needs_a_restart(tree: Path) -> None:
    put_kube_proxy(tree, config="mode: ipvs\n")

    found = examine(tree, answers(mode="iptables", requested=""))

    assert first(found) == "kube_proxy_not_restarted"
    assert found[0].fix.startswith("run 'systemctl restart kube-proxy.service'; then run 'ipvsd doctor' again, which ")


@pytest.mark.parametrize("scheduler", ["mh", "round-robin"])
def test_an_unavailable_scheduler_replaces_its_effect(scheduler: str, tmp_path: Path) -> None:
    without = [name for name in DEPENDS if name != "ip_vs_mh"]
    tree = make_tree(tmp_path, live=[name for name in LIVE if name != "ip_vs_mh"], shipped=without)
    put(tree, "usr/sbin/ipset", "")
    put(tree, "usr/sbin/iptables", "")
    put_kube_proxy(tree, config=f"mode: ipvs\nipvs: {{scheduler: {scheduler}}}\n")

    found = examine(tree, answers(mode="iptables", scheduler=scheduler))

    assert first(found) == "scheduler_unavailable"
    assert "mode_mismatch" not in [item.id for item in found]


def test_an_empty_table(tree: Path) -> None:
    put_table(tree, 0)

    found = examine(tree, answers())

    assert first(found) == "table_empty"
    assert found[0].section == sections.EMPTY_TABLE


def test_a_kube_proxy_that_ended_with_a_known_error(tree: Path) -> None:
    line = b'E1127 x.go:1] "Could not create dummy VS" err="no such file" scheduler="mh"\n'

    found = examine(tree, outputs={OWN_LOG: entries(line)})

    assert first(found) == "kube_proxy_scheduler_missing"


OWN_LOG = "SYSLOG_IDENTIFIER=kube-proxy"


def entries(text: bytes, unit: str = "kube-proxy.service", pid: int = 600) -> Output:
    """Return lines of a unit as `journalctl -r -o json` prints them."""
    lines = text.decode().splitlines()
    documents = [{"MESSAGE": line, "_PID": str(pid), "_SYSTEMD_UNIT": unit} for line in reversed(lines)]
    return Output(0, "".join(f"{json.dumps(item)}\n" for item in documents).encode())


def unit_state(unit: str, active: str, sub: str, result: str, restarts: int = 0) -> Output:
    text = f"Result={result}\nNRestarts={restarts}\nId={unit}\nActiveState={active}\nSubState={sub}\n"
    return Output(0, text.encode())


@pytest.mark.parametrize(("uid", "expected"), [(1000, ""), (0, "kube_proxy_ipvs_unsupported")])
def test_only_root_writes_the_log_of_kube_proxy(uid: int, expected: str, tree: Path) -> None:
    message = "F1127 can't use the IPVS proxier: ipvs not supported"
    entry = {"MESSAGE": message, "_PID": "7", "_UID": str(uid), "SYSLOG_IDENTIFIER": "kube-proxy"}

    def run(command: Sequence[str], limit: int, seconds: float) -> Output:
        groups = " ".join(word for word in command if word == "+" or re.match("[A-Z_]+=", word)).split(" + ")
        wanted = [{match.partition("=")[0]: match.partition("=")[2] for match in group.split()} for group in groups]
        matches = any(group and group.items() <= entry.items() for group in wanted)
        return Output(0, json.dumps(entry).encode() if matches and "json" in command else b"")

    found = doctor.diagnose(str(tree), Config(), http_client.get, run)

    assert found is not None
    assert first(found.findings) == expected


def test_a_stopped_kube_proxy_is_no_finding(tree: Path) -> None:
    log = entries(b"I1127 x.go:1] bye\nE1127 something else\nE1127 bind: address already in use\n")
    stopped = unit_state("kube-proxy.service", "inactive", "dead", "success")

    assert examine(tree, outputs={OWN_LOG: log, "systemctl": stopped}) == []


@pytest.mark.parametrize(("active", "sub"), [("failed", "failed"), ("activating", "auto-restart")])
def test_a_kube_proxy_that_ended_with_an_unknown_error(active: str, sub: str, tree: Path) -> None:
    line = 'E1127 run.go:74] "command failed" err="an error that nobody knows"'
    state = unit_state("kube-proxy.service", active, sub, "exit-code")

    (found,) = examine(tree, outputs={OWN_LOG: entries(f"I1 x\n{line}\nusage\n".encode()), "systemctl": state})

    assert (found.id, found.severity) == ("kube_proxy_failed", Severity.ERROR)
    assert found.evidence[0] == f"journalctl -u kube-proxy.service: {line}"
    assert "Result=exit-code" in found.evidence[1]


def test_a_container_that_ended_with_an_unknown_error(tree: Path) -> None:
    path = f"var/log/containers/kube-proxy-x_kube-system_kube-proxy-{'f' * 64}.log"
    stopped = "2026-11-27T00:40:05.1234567Z stderr F E1127 reflector.go:1] the server is away\n"
    put(tree, path, stopped)
    assert examine(tree) == []

    put(tree, path, f"{stopped}2026-11-27T00:40:05.1234567Z stderr F F1127 server.go:1] unheard of\n")
    (found,) = examine(tree)
    assert (found.id, found.evidence[0]) == ("kube_proxy_failed", f"/{path}: F1127 server.go:1] unheard of")

    put(tree, "proc/stat", "btime 4000000000\n")  # it is from the former boot
    assert examine(tree) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("E1127 listen tcp 127.0.0.1:10249: bind: address already in use", "kube_proxy_address_in_use"),
        ("F1127 can't use the IPVS proxier: ipvs not supported", "kube_proxy_ipvs_unsupported"),
        ("E1127 unheard of", "kube_proxy_unanswering"),
    ],
)
def test_a_kube_proxy_that_does_not_answer(line: str, expected: str, tree: Path) -> None:
    other = {"/": (200, b"another program")}

    (found,) = examine(tree, other, outputs={f"_PID={PID}": Output(0, f"I1 x\n{line}\n".encode())})

    assert found.id == expected
    assert line in found.evidence[0]


def test_a_kube_proxy_that_has_just_started_may_not_answer_yet(tree: Path) -> None:
    put_kube_proxy(tree, age=5)

    assert examine(tree, {"/": (200, b"")}, outputs={f"_PID={PID}": Output(0, b"E1127 retrying\n")}) == []


def test_an_error_counts_in_every_mode(tree: Path) -> None:
    put_kube_proxy(tree, config="mode: iptables\n")
    config = parse([("file", b"profiles: [lvs-full]\n")])
    log = {f"_PID={PID}": Output(0, b"E1127 Failed to execute iptables-restore\n")}

    found = examine(tree, answers(mode="iptables", requested="iptables"), config, log)

    assert "kube_proxy_iptables_restore_failed" in [item.id for item in found]


def test_a_k3s_that_restarts_because_of_its_kube_proxy(tree: Path) -> None:
    fatal = 'level=fatal msg="kube-proxy exited: ipvs is not supported"'
    log = entries(f"E1 kubelet.go:1] a\n{fatal}\n".encode(), "k3s.service")
    waiting = unit_state("k3s.service", "activating", "auto-restart", "exit-code", 7)

    (found,) = examine(tree, outputs={"SYSLOG_IDENTIFIER=k3s": log, "systemctl": waiting})
    assert (found.id, found.evidence[0]) == ("kube_proxy_ipvs_unsupported", f"journalctl -u k3s.service: {fatal}")

    running = unit_state("k3s.service", "active", "running", "success")
    assert examine(tree, outputs={"SYSLOG_IDENTIFIER=k3s": log, "systemctl": running}) == []
    kubelet = entries(b"E1 kubelet.go:1] a\n", "k3s.service")
    assert examine(tree, outputs={"SYSLOG_IDENTIFIER=k3s": kubelet, "systemctl": waiting}) == []


def test_the_former_start_of_a_k3s_explains_why_it_does_not_answer(tree: Path) -> None:
    put_process(tree, PID, "k3s-server", ["k3s", "server"], "system.slice/k3s.service", age=5)
    put(tree, "etc/rancher/k3s/config.yaml", "kube-proxy-arg: [proxy-mode=ipvs, metrics-bind-address=127.0.0.1:1]\n")
    former = entries(b'level=fatal msg="kube-proxy exited: ipvs is not supported"\n', "k3s.service", 600)
    restarted = unit_state("k3s.service", "active", "running", "success", 7)

    (found,) = examine(tree, outputs={"_SYSTEMD_UNIT=k3s.service": former, "systemctl": restarted})

    assert found.id == "kube_proxy_ipvs_unsupported"
    assert "NRestarts=7" in found.evidence[1]


def test_a_kube_proxy_in_another_network_namespace(tree: Path) -> None:
    put_process(tree, 1, "systemd", ["/sbin/init"], network="1")
    put_process(tree, PID, "kube-proxy", ["kube-proxy", "--proxy-mode=ipvs"], network="2")

    assert first(examine(tree)) == "kube_proxy_in_other_network_namespace"


def test_an_unhealthy_kube_proxy(tree: Path) -> None:
    unhealthy = (503, HEALTHY[1])

    found = examine(tree, {**answers(), "/healthz": unhealthy})

    assert first(found) == "kube_proxy_unhealthy"


@pytest.mark.parametrize(
    ("version", "severity"), [("v1.34.9", None), ("v1.35.0", Severity.WARNING), ("v1.43.0", Severity.ERROR)]
)
def test_versions_that_deprecate_or_remove_ipvs_mode(version: str, severity: Severity | None, tree: Path) -> None:
    found = examine(tree, answers(version=version))

    assert [item.severity for item in found] == ([severity] if severity else [])


@pytest.mark.parametrize(("version", "reported"), [("v1.36.0", False), ("v1.40.0", True), ("v1.43.0", True)])
def test_a_note_about_the_configured_version_replaces_only_an_equal_finding(
    version: str, reported: bool, tree: Path
) -> None:
    config = parse([("file", b"kubeProxyVersion: '1.35'\n")])

    found = examine(tree, answers(version=version), config)

    assert ("ipvs_mode_deprecated" in [item.id for item in found]) is reported
    assert [item.section for item in found if item.id == "note"] == [sections.REMOVED]


def test_settings_that_ipvsd_lacks(tree: Path) -> None:
    put_kube_proxy(tree, config="mode: ipvs\nipvs: {scheduler: lc, strictARP: false}\n")

    found = examine(tree, answers(scheduler="lc"))

    assert [item.id for item in found] == ["configurations_differ"]
    assert "write 'scheduler: lc' in /etc/ipvsd/ipvsd.yaml" in found[0].fix


# --- remains ----------------------------------------------------------------------------


def test_objects_of_ipvs_mode_remain_in_another_mode(tree: Path) -> None:
    put(tree, "sys/class/net/kube-ipvs0/ifindex", "7\n")
    put_kube_proxy(tree, config="mode: nftables\n")
    config = parse([("file", b"profiles: [lvs-full]\n")])

    found = examine(tree, answers(mode="nftables", requested="nftables"), config)

    (remaining,) = [item for item in found if item.id == "ipvs_remains"]
    assert remaining.evidence == ("/proc/net/ip_vs: 3 virtual services", "the interface kube-ipvs0 exists")


def test_chains_of_iptables_mode_remain_in_ipvs_mode(tree: Path) -> None:
    saved = b"*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]\nCOMMIT\n"

    found = examine(tree, answers(), outputs={"iptables-save": Output(0, saved)})

    assert [item.id for item in found] == ["iptables_remains"]


def test_chains_remain_of_another_family_and_in_the_other_tables(tree: Path) -> None:
    (tree / "usr/sbin/iptables-legacy").symlink_to("xtables-legacy-multi")
    put(tree, "usr/sbin/xtables-legacy-multi", "")
    put(tree, "usr/sbin/nft", "")
    put(tree, "proc/net/ip_tables_names", "nat\n")
    put(tree, "proc/net/ip6_tables_names", "nat\n")
    asked = []

    def run(command: Sequence[str], limit: int, seconds: float) -> Output:
        if command[-1] == "nat":
            asked.append(tuple(command[:2]))
        chain = b":KUBE-SEP-ABCDEFGHIJKLMNOP - [0:0]\n"
        return Output(0, chain if command[:2] == ("/usr/sbin/xtables-legacy-multi", "ip6tables-save") else b"")

    with serving(answers()) as port:
        put_kube_proxy(tree, port)
        found = doctor.diagnose(str(tree), Config(), http_client.get, run)

    assert found is not None
    assert found.facts.unchecked == ()
    assert [item.evidence for item in found.findings] == [
        ("/usr/sbin/xtables-legacy-multi ip6tables-save: KUBE-SEP-ABCDEFGHIJKLMNOP",)
    ]
    programs = ("/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi")
    assert set(asked) == {(path, name) for path in programs for name in ("iptables-save", "ip6tables-save")}


def test_tables_of_nftables_mode_remain(tree: Path) -> None:
    put(tree, "usr/sbin/nft", "")
    listed = b"table ip kube-proxy\ntable ip nat\ntable ip6 kube-proxy\ntable inet kube-proxy-x\n"

    (found,) = examine(tree, answers(), outputs={"/usr/sbin/nft": Output(0, listed)})

    assert (found.id, found.severity) == ("nftables_remains", Severity.WARNING)
    assert "'nft delete table ip kube-proxy' and 'nft delete table ip6 kube-proxy'" in found.fix


def test_a_node_without_programs_that_read_rules_is_healthy(tree: Path) -> None:
    (tree / "usr/sbin/iptables").unlink()
    with serving(answers()) as port:
        put_kube_proxy(tree, port)
        put(tree, f"proc/{PID}/cgroup", f"0::/kubepods/pod{'0' * 32}/{'a' * 64}\n")
        found = doctor.diagnose(str(tree), Config(), http_client.get, programs({}))

    assert found is not None
    document = doctor.build_document(found, Config())
    assert document["unchecked"] == [
        "the chains of iptables in nf_tables: no program of this node reads them",
        "the chains of ip6tables in nf_tables: no program of this node reads them",
        "the tables of nftables mode: the program nft is missing",
    ]
    (line,) = doctor.text_lines(found, document)
    assert line.startswith("no problem found: ready: ")


def test_chains_of_a_program_that_hangs_are_not_checked(tree: Path) -> None:
    with serving(answers()) as port:
        put_kube_proxy(tree, port)
        hanging = {"/usr/sbin/xtables-nft-multi": Output(None, b"*nat\n")}
        found = doctor.diagnose(str(tree), Config(), http_client.get, programs(hanging))

    assert found is not None
    assert [reason.rpartition(": ")[2] for reason in found.facts.unchecked] == [
        f"/usr/sbin/xtables-nft-multi {family}-save took more than 10 s" for family in ("iptables", "ip6tables")
    ]


def test_a_director_fills_the_table_by_itself(tree: Path) -> None:
    put_process(tree, 9, "keepalived", ["keepalived"])
    put_kube_proxy(tree, config="mode: nftables\n")
    config = parse([("file", b"profiles: [lvs-full]\n")])

    found = examine(tree, answers(mode="nftables", requested="nftables"), config)

    assert not [item for item in found if item.id == "ipvs_remains"]


# --- the node ---------------------------------------------------------------------------


def test_a_blacklisted_module_comes_before_the_mode(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, live=[name for name in LIVE if not name.startswith("ip_vs")])
    put(tree, "etc/modprobe.d/hardening.conf", "install ip_vs /bin/false\n")

    found = examine(tree, answers(mode="iptables"))

    assert first(found) == "module_overridden"
    assert "remove 'install ip_vs /bin/false' from" in found[0].fix
    assert found[0].section == sections.MODULE_BLOCKED


def test_a_missing_module(tmp_path: Path) -> None:
    without = [name for name in DEPENDS if name != "xt_set"]
    tree = make_tree(tmp_path, live=[name for name in LIVE if name != "xt_set"], shipped=without)

    assert first(examine(tree)) == "module_absent"


def test_a_sysctl_and_the_file_that_overrides_it(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, values={**READY, "net.ipv4.ip_forward": "0"})
    put(tree, "etc/sysctl.d/99-cis.conf", "net.ipv4.ip_forward = 0\n")

    found = examine(tree)

    assert first(found) == "sysctl_noncompliant"
    (file,) = [item for item in found if item.id == "file_undoes_configuration"]
    assert "99-cis.conf:1" in file.summary


def test_a_file_will_undo_a_correct_value(tree: Path) -> None:
    put(tree, "etc/sysctl.d/99-cis.conf", "net.ipv4.ip_forward = 0\n")

    assert [(item.id, item.severity) for item in examine(tree)] == [("file_undoes_configuration", Severity.WARNING)]


def test_a_line_that_modules_load_cannot_process(tree: Path) -> None:
    put(tree, "etc/modules-load.d/ipvs.conf", "nf_conntrack_ipv4\n")

    found = examine(tree)

    assert first(found) == "modules_load_fails"
    assert found[0].section == sections.MODULES_LOAD


def test_a_program_that_a_process_of_the_node_needs(tree: Path) -> None:
    (tree / "usr/sbin/ipset").unlink()

    found = examine(tree, answers())

    assert first(found) == "ipset_missing"
    assert examine_without_kube_proxy(tree) == []


def examine_without_kube_proxy(tree: Path) -> Sequence[Finding]:
    (tree / f"proc/{PID}/comm").unlink()
    return examine(tree)


def test_an_ipset_that_fails(tree: Path) -> None:
    said = Output(1, b"ipset v7.17: Cannot open session to kernel.\n")

    found = examine(tree, answers(), outputs={"/usr/sbin/ipset": said})

    assert first(found) == "ipset_fails"
    assert "Cannot open session to kernel" in found[0].evidence[0]


def test_networkd_manages_the_interface(tree: Path) -> None:
    put(tree, "sys/class/net/kube-ipvs0/ifindex", "7\n")
    put(tree, "run/systemd/netif/links/7", "# x\nADMIN_STATE=configured\nOPER_STATE=off\n")

    assert first(examine(tree, answers())) == "interface_managed"
    put(tree, "run/systemd/netif/links/7", "ADMIN_STATE=unmanaged\n")
    put(tree, "run/NetworkManager/devices/7", "[device]\nmanaged=false\n")
    assert examine(tree, answers()) == []
    put(tree, "run/NetworkManager/devices/7", "[device]\nmanaged=true\n")
    assert "NetworkManager manages kube-ipvs0" in examine(tree, answers())[0].summary


@pytest.mark.parametrize(
    ("count", "expected"), [(1000, ""), (200_000, "conntrack_nearly_full"), (262_000, "conntrack_full")]
)
def test_the_table_of_connections(count: int, expected: str, tree: Path) -> None:
    put_sysctl(tree, "net.netfilter.nf_conntrack_count", str(count))

    assert first(examine(tree)) == expected


def test_the_fix_names_the_file_whose_setting_takes_effect(tree: Path) -> None:
    key = "net.netfilter.nf_conntrack_max"
    put_sysctl(tree, "net.netfilter.nf_conntrack_count", "262000")
    text = f"scheduler: sed\nsysctls: {{{key}: false}}\n"
    config = parse([("/etc/ipvsd/conf.d/x.yaml", text.encode())])

    full, differs = examine(tree, answers(), config)

    assert (full.id, differs.id) == ("conntrack_full", "configurations_differ")
    assert "instead of the setting in /etc/ipvsd/conf.d/x.yaml:2, and run" in full.fix
    assert "write 'scheduler: rr' instead of the setting in /etc/ipvsd/conf.d/x.yaml:1, and run" in differs.fix


SELINUX = (
    'type=AVC msg=audit(1700000000.123:45): avc:  denied  { module_load } for  pid=9 comm="kube-proxy" '
    'path="/lib/modules/x.ko" scontext=system_u:system_r:container_t:s0 tclass=system permissive=0'
)
OTHER = SELINUX.replace("kube-proxy", "httpd").replace("module_load", "read").replace("/lib/modules", "/srv")
APPARMOR = (
    'audit: type=1400 audit(1700000000.1:2): apparmor="DENIED" operation="open" profile="cri-containerd.apparmor.d" '
    'name="/proc/sys/net/ipv4/vs/conntrack" pid=9 comm="kube-proxy" requested_mask="w"'
)


def test_denials_in_the_audit_log_and_the_kernel_log(tree: Path) -> None:
    put(tree, "var/log/audit/audit.log", f"{SELINUX}\n{OTHER}\n")

    found = examine(tree, outputs={"-k": Output(0, f"{APPARMOR}\n".encode())})

    assert [item.summary.split()[0] for item in found] == ["SELinux", "AppArmor"]
    assert denials.parse(APPARMOR.replace("kube-proxy", "x").replace("/proc/sys/net/", "/home/")) is None


def test_firewalld_is_a_finding_only_if_its_settings_are_harmful(tree: Path) -> None:
    put_process(tree, 33, "firewalld", ["/usr/bin/python3", "/usr/sbin/firewalld"])

    put(tree, "etc/firewalld/zones/public.xml", '<zone><source address="10.0.0.0/8"/></zone>')
    assert [(item.id, item.severity) for item in examine(tree)] == [("firewalld_runs", Severity.WARNING)]

    connection = "etc/NetworkManager/system-connections/cni0.nmconnection"
    put(tree, connection, "[connection]\nid=cni0\nzone=trusted\n")  # as by firewall-cmd --change-interface
    assert examine(tree) == []
    put(tree, connection, "[connection]\nid=cni0\nzone=public\n")
    assert examine(tree) != []

    trusted = '<?xml version="1.0"?>\n<zone target="ACCEPT">\n  <source address="10.244.0.0/16"/>\n</zone>\n'
    put(tree, "etc/firewalld/zones/trusted.xml", trusted)
    put(tree, "etc/firewalld/firewalld.conf", "CleanupModulesOnExit=no\n")
    put(tree, "etc/systemd/system/multi-user.target.wants/firewalld.service", "")
    assert examine(tree) == []

    put(tree, "etc/firewalld/firewalld.conf", "CleanupModulesOnExit=yes\n")
    assert [(item.id, item.section) for item in examine(tree)] == [("file_undoes_configuration", sections.FIREWALLD)]


# --- output -----------------------------------------------------------------------------


def test_text_and_json(tmp_path: Path, capsys: Capture) -> None:
    tree = make_tree(tmp_path, values={**READY, "net.ipv4.ip_forward": "0"})
    put_kube_proxy(tree, config="mode: iptables\n")

    assert main(["doctor", "--root", str(tree)]) == 1
    text = capsys.readouterr().out
    assert main(["doctor", "--root", str(tree), "--output", "json"]) == 1
    document = json.loads(capsys.readouterr().out)

    assert text.splitlines()[0] == f"{len(document['findings'])} errors"
    assert "error: sysctl net.ipv4.ip_forward: noncompliant" in text
    where = "/usr/share/doc/ipvsd/docs/troubleshooting.md"
    assert f'see "{sections.SYSCTL_CHANGED}" in {where}' in " ".join(text.split())
    assert all(len(line) <= 80 for line in text.splitlines())
    assert document["findings"][0]["id"] == "sysctl_noncompliant"
    assert document["kube_proxy"]["requested_mode"] == "iptables"


def test_an_image_is_not_a_node(tmp_path: Path, capsys: Capture) -> None:
    assert main(["doctor", "--root", str(tmp_path)]) == 2
    assert "no kernel is running" in capsys.readouterr().err


def test_check_and_status_show_one_line(tree: Path, capsys: Capture) -> None:
    put_kube_proxy(tree, config="mode: iptables\n")

    main(["check", "--root", str(tree)])

    (line,) = [line for line in capsys.readouterr().out.split("\n") if line.startswith("kube-proxy")]
    assert line == "kube-proxy: mode iptables (configured) (this contradicts the configuration: run 'ipvsd doctor')"


@pytest.mark.parametrize(
    ("settings", "contradicts"),
    [
        ("scheduler: rr", False),
        ("scheduler: mh", True),
        ("scheduler: round-robin", True),
        ("strictARP: true", True),
        ("strictARP: false", False),
    ],
)
def test_the_line_refers_to_doctor_if_ipvsd_does_not_manage_a_setting(
    settings: str, contradicts: bool, tree: Path, capsys: Capture
) -> None:
    put_kube_proxy(tree, config=f"mode: ipvs\nipvs: {{{settings}}}\n")

    main(["check", "--root", str(tree)])

    assert ("run 'ipvsd doctor'" in capsys.readouterr().out) is contradicts
    found = doctor.diagnose(str(tree), Config())
    assert found is not None
    assert (
        bool({"configurations_differ", "scheduler_unavailable"} & {item.id for item in found.findings}) is contradicts
    )


# --- the bundle -------------------------------------------------------------------------

SECRETS = {
    "a1b2c3.0123456789abcdef": "bootstrap",
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl": "Authorization: Bearer {}",
    "hunter2-of-root": "password={}",
    "c3VwZXItc2VjcmV0LWtleS1kYXRhLTEyMzQ1Njc4OTA": "client-key-data: {}",
    "MIIEvQIBADANBgkqhkiG9w0": "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    "user-and-pass": "https://{}@proxy.example.com/",
    "deadbeefdeadbeefdeadbeefdeadbeef": "got {}",
    "value-of-environment": "AWS_SESSION={}",
    "quoted secret text": 'secret: "{}"',
}


def test_doctor_lists_the_processes_once_also_for_a_bundle(
    tree: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings: list[str] = []
    names = process_files.names

    def listed(root: str) -> Iterator[tuple[int, str]]:
        listings.append(root)
        return names(root)

    monkeypatch.setattr(process_files, "names", listed)
    put_kube_proxy(tree)
    bundled = tmp_path / "out.tar.gz"
    assert main(["doctor", "--root", str(tree), "--bundle", str(bundled)]) == 0
    assert listings == [str(tree)]
    assert json.loads(unpacked(bundled.read_bytes())["ipvsd-bundle/system.json"])["processes"] == ["kube-proxy"]


def test_the_bundle_contains_no_secret_of_any_source(tree: Path, tmp_path: Path, capsys: Capture) -> None:
    text = "\n".join(pattern.format(secret) for secret, pattern in SECRETS.items()) + "\n"
    one_line = " ".join(pattern.format(secret).replace("\n", " ") for secret, pattern in SECRETS.items())
    put_kube_proxy(tree)
    put(tree, f"proc/{PID}/environ", text)
    put(tree, f"proc/{PID}/cmdline", f"kube-proxy\0--config=/etc/kube-proxy.yaml\0--token={text}\0")
    put(tree, f"proc/{PID}/root/etc/kube-proxy.yaml", f"mode: ipvs\nclientConnection: {{kubeconfig: 'x {one_line}'}}\n")
    put(tree, "proc/cmdline", f"root=/dev/vda {one_line} secret.parameter=hunter2-of-root")
    put(tree, "etc/sysctl.d/99.conf", f"# {text}\nnet.ipv4.ip_forward = 0 # {one_line}\n")
    put(tree, "etc/modprobe.d/a.conf", f"install ip_vs_lc /bin/sh -c 'curl {one_line}'\n")
    put(tree, "etc/modules-load.d/a.conf", f"unknown {one_line}\n")
    put(tree, "etc/os-release", f"export ID='debian' # 12\nSECRET='{one_line}'\n")
    container = "f" * 64
    put(tree, f"proc/{PID}/cgroup", f"0::/kubepods/pod{'0' * 32}/{container}\n")
    name = f"var/log/containers/kube-proxy-x_kube-system_kube-proxy-{container}.log"
    put(tree, name, f"2026-11-27T00:40:05.1234567Z stderr F E1127 {one_line}\n{text}")
    log = Output(0, text.encode())

    found = doctor.diagnose(str(tree), Config(), None, programs({"-k": log}))
    assert found is not None
    whole = unpacked(
        bundle.build(str(tree), Config(), doctor.build_document(found, Config()), found.report, found.facts)
    )
    assert main(["doctor", "--root", str(tree), "--bundle", str(tmp_path / "out.tar.gz")]) == 0
    written = unpacked((tmp_path / "out.tar.gz").read_bytes())

    for secret in SECRETS:
        for members in (whole, written):
            assert [name for name, data in members.items() if secret.encode() in data] == [], secret
    assert b"E1127" in written["ipvsd-bundle/kube-proxy.log"]
    assert json.loads(written["ipvsd-bundle/doctor.json"])["kernel"]
    assert json.loads(written["ipvsd-bundle/system.json"])["os_release"] == {"ID": "debian"}


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        members = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            assert (member.mode, member.mtime, member.uid) == (0o600, 0, 0)
            members[member.name] = file.read()
        return members


def test_the_bundle_is_private_and_always_has_the_same_names(tree: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "out.tar.gz"

    assert main(["doctor", "--root", str(tree), "--bundle", str(file)]) == 0
    names = list(unpacked(file.read_bytes()))
    assert main(["doctor", "--root", str(tree), "--bundle", str(file)]) == 0

    assert file.stat().st_mode & 0o777 == 0o600
    assert list(unpacked(file.read_bytes())) == names
    assert all(name.startswith("ipvsd-bundle/") for name in names)


def test_a_bundle_that_cannot_be_written(tree: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["doctor", "--root", str(tree), "--bundle", str(tmp_path / "absent/out")]) == 74
    assert "cannot write" in capsys.readouterr().err
