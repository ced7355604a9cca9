"""Identification of processes, with an artificial /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipvsd.kernel.processes import ProcessResolver
from ipvsd.model.report import Writer
from tests.trees import put

ID = "3f4a9b0c" * 8
UID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"


def process(root: Path, pid: int, comm: str, command: bytes, group: str = "0::/system.slice/cron.service\n") -> None:
    put(root, f"proc/{pid}/comm", f"{comm}\n")
    put(root, f"proc/{pid}/cgroup", group)
    (root / f"proc/{pid}/cmdline").write_bytes(command)


def newest(root: Path, pid: int) -> None:
    put(root, "proc/loadavg", f"0.00 0.01 0.05 1/123 {pid}\n")


@pytest.fixture
def writers(tmp_path: Path) -> ProcessResolver:
    return ProcessResolver(str(tmp_path), str(tmp_path / "cgroup"))


def test_a_running_process_is_identified_with_all_properties(tmp_path: Path, writers: ProcessResolver) -> None:
    process(tmp_path, 42, "sysctl", b"sysctl\0-w\0net.ipv4.ip_forward=0\0")
    assert writers.resolve(42, "sysctl", 1) == Writer(42, "sysctl", "cron.service")


def test_a_process_in_a_container_is_named_with_it_and_its_pod(tmp_path: Path, writers: ProcessResolver) -> None:
    process(tmp_path, 42, "agent", b"/agent\0", f"0::/kubepods/besteffort/pod{UID}/{ID}\n")
    writer = writers.resolve(42, "agent", 1)
    assert (writer.unit, writer.container, writer.pod) == ("", ID, UID)
    assert str(writer) == f"agent[42] of pod {UID}"


def test_the_name_is_the_one_at_the_time_of_the_write_if_the_kernel_reports_it(
    tmp_path: Path, writers: ProcessResolver
) -> None:
    process(tmp_path, 42, "another", b"another\0")
    assert str(writers.resolve(42, "sysctl", 1)) == "sysctl[42] of cron.service"
    assert str(writers.resolve(42, "", 1)) == "another[42] of cron.service"


def test_an_ended_process_is_identified_by_its_cgroup(tmp_path: Path, writers: ProcessResolver) -> None:
    group = tmp_path / "cgroup/system.slice/cron.service"
    group.mkdir(parents=True)
    assert writers.resolve(42, "sysctl", group.stat().st_ino) == Writer(42, "sysctl", "cron.service")


def test_an_unknown_process_is_identified_by_its_cgroup(tmp_path: Path, writers: ProcessResolver) -> None:
    process(tmp_path, 0, "wrong", b"wrong\0", "0::/system.slice/wrong.service\n")
    group = tmp_path / f"cgroup/docker/{ID}"
    group.mkdir(parents=True)
    assert writers.resolve(0, "", group.stat().st_ino) == Writer(0, "", "", ID)


@pytest.mark.parametrize("identity", [0, 1 << 63])
def test_a_removed_cgroup_is_unknown(tmp_path: Path, writers: ProcessResolver, identity: int) -> None:
    (tmp_path / "cgroup/system.slice").mkdir(parents=True)
    assert writers.resolve(42, "sysctl", identity) == Writer(42, "sysctl")


def test_more_cgroups_than_the_cache_holds_are_found(tmp_path: Path, writers: ProcessResolver) -> None:
    groups = [tmp_path / f"cgroup/system.slice/a{number}.service" for number in range(150)]
    for group in groups:
        group.mkdir(parents=True)
    for _ in range(2):
        found = [writers.resolve(0, "", group.stat().st_ino).unit for group in groups]
        assert found == [group.name for group in groups]


def test_without_cgroup_version_2_nothing_is_searched(tmp_path: Path) -> None:
    assert ProcessResolver(str(tmp_path)).resolve(42, "sysctl", tmp_path.stat().st_ino) == Writer(42, "sysctl")


@pytest.mark.parametrize("comm", ["a\nb\x1b[31mc", "\udcff", "\0\0", "", "caf\u00e9", "x\n\x1b[2J\u00e9"])
def test_any_name_of_a_process_is_one_printable_line(writers: ProcessResolver, comm: str) -> None:
    assert writers.resolve(42, comm, 1).comm.isprintable()


def test_the_cgroup_at_the_time_of_the_write_counts(tmp_path: Path, writers: ProcessResolver) -> None:
    then, now = (tmp_path / f"cgroup/system.slice/{name}.service" for name in ("then", "now"))
    for group in (then, now):
        group.mkdir(parents=True)
    process(tmp_path, 42, "agent", b"agent\0", "0::/system.slice/now.service\n")
    assert writers.resolve(42, "agent", then.stat().st_ino).unit == "then.service"
    assert writers.resolve(42, "agent", now.stat().st_ino).unit == "now.service"
    then_id = then.stat().st_ino
    then.rmdir()
    assert ProcessResolver(str(tmp_path), str(tmp_path / "cgroup")).resolve(42, "agent", then_id).unit == ""


def test_in_a_container_with_a_systemd_units_are_those_of_that(tmp_path: Path) -> None:
    put(tmp_path, "proc/1/cgroup", f"0::/docker/{ID}/init.scope\n")
    process(tmp_path, 42, "agent", b"agent\0", f"0::/docker/{ID}/system.slice/cron.service\n")
    assert ProcessResolver(str(tmp_path)).resolve(42, "agent", 1) == Writer(42, "agent", "cron.service")


# --- the process that unloads a module --------------------------------------------------


@pytest.mark.parametrize("comm", ["rmmod", "modprobe", "firewalld"])
def test_the_newest_process_that_unloads_modules_is_named(tmp_path: Path, writers: ProcessResolver, comm: str) -> None:
    process(tmp_path, 40, "rmmod", b"rmmod\0an_older_one\0")
    process(tmp_path, 41, comm, comm.encode() + b"\0ip_vs_sh\0")
    process(tmp_path, 43, "sleep", b"sleep\0001\0")
    newest(tmp_path, 44)
    assert writers.find_unloader() == Writer(41, comm, "cron.service")


@pytest.mark.parametrize(
    "text", ["", "\n", "0.00 0.01 0.05 1/123 many", "0", "-7", "1" * 30, "0.00 0.01 0.05 1/123 1041", None]
)
def test_a_much_older_process_or_an_unreadable_list_identifies_no_process(
    tmp_path: Path, writers: ProcessResolver, text: str | None
) -> None:
    process(tmp_path, 41, "rmmod", b"rmmod\0ip_vs_sh\0")
    if text is not None:
        put(tmp_path, "proc/loadavg", text)
    assert writers.find_unloader() is None
