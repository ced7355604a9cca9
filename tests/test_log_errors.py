"""Errors in kube-proxy's log: lines of real versions, and the entry that explains each."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipvsd.discovery import log_reader
from ipvsd.discovery.processes import Kind, Process
from ipvsd.kube_proxy import log_errors
from ipvsd.runtime.command_output import Output
from tests.trees import put

CONTAINER = "1234567890ab" * 5 + "cdef"
LINES = [
    (
        'E1127 00:40:05.1 1 server.go:1] "Could not create dummy VS" err="no such file" scheduler="mh"',
        "module ip_vs_mh",
    ),
    ('E1127 1 run.go:74] "command failed" err="can\'t use the IPVS proxier: ipvs not supported"', "modprobe ip_vs'"),
    ("can't use the IPVS proxier: error getting ipset version, error: exit status 1", "modprobe ip_set'"),
    (
        "E1127 server_others.go:127] Can't use the IPVS proxier: IPVS proxier will not be used because the following "
        "required kernel modules are not loaded: [ip_vs_sh ip_vs]",
        "modprobe -a ip_vs_sh ip_vs'",
    ),
    ("E1127 server_others.go:1] can't determine whether to use ipvs proxy, error: x", "ipvsd check"),
    ("F1127 server.go:1] open /proc/sys/net/netfilter/nf_conntrack_max: no such file or directory", "nf_conntrack'"),
    ("can't set sysctl net/ipv4/vs/conntrack to 1: open /proc/sys/x: read-only file system", "ipvsd check"),
    ('W0330 server_others.go:565] Unknown proxy mode "", assuming iptables proxy', "set 'mode: ipvs'"),
    ('I0424 server_others.go:561] "Unknown proxy mode, assuming iptables proxy" proxyMode=""', "set 'mode: ipvs'"),
    ('KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "IPVS"', "set 'mode: ipvs'"),
    ('KubeProxyIPVSConfiguration.Scheduler.Scheduler: Invalid value: "round-robin"', "set 'scheduler: rr'"),
    ('E1127 proxier.go:1] "Failed to execute iptables-restore" err="exit status 2"', "ipvsd check"),
    ('E1127 proxier.go:1] "Failed to create dummy interface" interface="kube-ipvs0"', "modprobe dummy'"),
    ("starting metrics server failed: listen tcp 127.0.0.1:10249: bind: address already in use", "127.0.0.1:10249"),
]


@pytest.mark.parametrize(("line", "fix"), LINES)
def test_a_line_is_explained_with_the_command_that_fixes_it(line: str, fix: str) -> None:
    found = log_errors.explain(line)

    assert found is not None
    assert fix in found.fix
    assert found.known.section


def test_the_most_specific_line_of_a_problem_counts() -> None:
    log = [
        'E1127 00:40:05.1 1 x.go:1] "Could not create dummy VS" err="no such file" scheduler="mh"',
        'E1127 00:40:05.1 1 server.go:1] "Error running ProxyServer" err="can\'t use the IPVS proxier: no such file"',
        'E1127 00:40:05.1 1 run.go:74] "command failed" err="can\'t use the IPVS proxier: no such file"',
    ]

    found = log_errors.last_known(log)

    assert found is not None
    assert found.known.id == "scheduler_missing"


def test_an_error_long_ago_does_not_count() -> None:
    log = [LINES[1][0], *(f"I1127 line {number}" for number in range(100))]

    assert log_errors.last_known(log) is None
    assert log_errors.last_known(log, recent=len(log)) is not None


def test_ordinary_lines_are_not_explained() -> None:
    for line in ("I1127 server_linux.go:1] Using ipvs Proxier", "I1127 Changed sysctl", "", "IPVS: ipvs loaded."):
        assert log_errors.explain(line) is None


def test_the_log_of_a_container_is_read(tmp_path: Path) -> None:
    put(tmp_path, f"var/log/pods/kube-system_x/{CONTAINER}.log", "2026-11-27T00:40:05.123456789Z stderr F E1127 a\n")
    name = f"kube-proxy-abcde_kube-system_kube-proxy-{CONTAINER}.log"
    (tmp_path / "var/log/containers").mkdir()
    (tmp_path / "var/log/containers" / name).symlink_to(f"/var/log/pods/kube-system_x/{CONTAINER}.log")
    put(tmp_path, f"var/log/containers/kube-proxy-x_kube-system_kube-proxy-{'f' * 64}.log", '{"log":"other\\n"}\n')
    process = Process(1, "kube-proxy", Kind.POD, container=CONTAINER)

    found = log_reader.read(str(tmp_path), process, None)

    assert (found.lines[0], found.start[0]) == ("E1127 a", "E1127 a")
    assert found.origin == f"/var/log/containers/{name}"


def test_the_log_of_a_process_is_read_from_the_journal(tmp_path: Path) -> None:
    commands = []

    def run(command: object, *_: object) -> Output:
        commands.append(command)
        return Output(0, b"first\nlast\n")

    found = log_reader.read(str(tmp_path), Process(7, "kube-proxy", Kind.PROCESS), run)

    assert found.origin == "journalctl _PID=7"
    assert found.lines[:2] == ("first", "last")
    assert len(commands) == 2


def test_a_journal_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    def run(*_: object) -> Output:
        raise FileNotFoundError(2, "No such file or directory")

    assert log_reader.read(str(tmp_path), None, run).problem == "cannot run journalctl: No such file or directory"
    assert log_reader.read(str(tmp_path), None, lambda *_: Output(1, b"")).problem
