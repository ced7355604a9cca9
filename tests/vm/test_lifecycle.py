"""Killed, stopped, reloaded and restarted: items stay compliant, and no resource leaks."""

from __future__ import annotations

import json

from tests.vm.node import Journal, Node, emptied, repeated


def _resources(node: Node) -> tuple[int, int, int]:
    """Return the numbers of file descriptors, threads and children of the daemon."""
    pid = node.show("MainPID")
    counted = node.run(
        f"ls /proc/{pid}/fd | wc -l; ls /proc/{pid}/task | wc -l; cat /proc/{pid}/task/*/children | wc -w"
    ).out.split()
    return int(counted[0]), int(counted[1]), int(counted[2])


def _settled(node: Node) -> tuple[int, int, int]:
    node.ipvs_answer()
    node.get("/metrics")
    return node.until(lambda: _resources(node) if _resources(node)[2] == 0 else None, "no child")


def test_after_kill_9_it_restarts_and_finds_the_node_unchanged(node: Node, journal: Journal) -> None:
    pid = node.show("MainPID")
    node.run(f"kill -KILL {pid}; sysctl -w net.ipv4.ip_forward=0")
    node.replaced(pid)
    node.until(lambda: node.show("ActiveState") == "active", "active")
    assert node.sysctl("net.ipv4.ip_forward") == "1"
    written = [line for line in journal.lines() if line.startswith(("wrote", "loaded"))]
    assert written == ["wrote net.ipv4.ip_forward: '1' (was '0')"]


def test_after_a_kill_at_the_memory_limit_the_node_is_compliant_within_10_s(node: Node, journal: Journal) -> None:
    pid, group = node.show("MainPID"), f"/sys/fs/cgroup{node.show('ControlGroup')}"
    limits = node.run(f"cat {group}/memory.max {group}/pids.max").out.split()
    assert limits == [str(256 << 20), "64"]
    # A limit below the present size applies at once: the kernel reclaims, and then kills.
    killed = node.run(
        f"cat /proc/uptime; echo 4M > {group}/memory.max; echo {limits[0]} > {group}/memory.max; "
        "sysctl -qw net.ipv4.ip_forward=0"
    ).out.split()[0]
    node.replaced(pid)
    node.until(lambda: node.show("ActiveState") == "active", "active")
    assert "out of memory" in node.run(f"dmesg | grep 'Killed process {pid} '").out
    assert node.sysctl("net.ipv4.ip_forward") == "1"
    assert "wrote net.ipv4.ip_forward: '1' (was '0')" in journal.lines()
    # Both since boot: READY=1 follows the repair of the node.
    assert int(node.show("ActiveEnterTimestampMonotonic")) / 1e6 - float(killed) < 10
    assert node.run(f"cat {group}/memory.max").out.strip() == limits[0]


def test_a_daemon_started_by_hand_beside_the_service_disturbs_nothing(node: Node) -> None:
    pid = node.show("MainPID")
    done = node.run("ipvsd run 2>&1", check=False)
    assert (done.code, f"process {pid} is already running the daemon" in done.out) == (75, True)
    assert node.status()["state"] == "ready"
    assert node.run("ipvsd apply").code == 0
    assert node.show("MainPID") == pid


def test_a_daemon_that_hangs_is_restarted_by_the_watchdog(node: Node) -> None:
    with node.changed_unit("[Service]\nWatchdogSec=6\n"):
        pid = node.show("MainPID")
        node.run("systemctl kill -s STOP ipvsd")
        told = node.run("ipvsd status --output json", check=False)
        assert json.loads(told.out)["state"] == "ready"  # the file is readable beside a hung daemon
        node.until(lambda: node.show("MainPID") not in (pid, "0"), "a new process", 90)
        node.until(lambda: node.show("ActiveState") == "active", "active")
        assert "watchdog" in node.run("journalctl -b -u ipvsd _PID=1 | grep -i watchdog").out


def test_many_reloads_leak_nothing_and_touch_nothing(node: Node, journal: Journal) -> None:
    times = repeated(10, 100)
    node.start()
    before = _settled(node)
    node.run(f"for i in $(seq {times}); do systemctl reload ipvsd; done", timeout=300)
    node.until(lambda: sum("configuration loaded" in line for line in journal.lines()) >= 0.9 * times, "the reloads")
    assert _settled(node) == before
    assert [line for line in journal.lines() if line.startswith(("wrote", "loaded"))] == []


def test_restarts_disturb_nothing(node: Node, journal: Journal) -> None:
    node.start()
    before = _settled(node)
    node.run(f"for i in $(seq {repeated(4, 20)}); do systemctl restart ipvsd; done", timeout=400)
    assert _settled(node) == before
    assert [line for line in journal.lines() if line.startswith(("wrote", "loaded"))] == []
    assert node.show("NRestarts") == "0"


def test_the_contract_of_a_host_holds_on_the_real_kernel(node: Node) -> None:
    emptied(node)  # the suite unloads the modules that it knows, and ip_vs has more users
    archive = _archive()
    node.machine.put(archive, "/root/tests.tar")
    done = node.run(
        "rm -rf /root/contract; mkdir /root/contract; cd /root/contract; tar -xf ../tests.tar; "
        "IPVSD_CONTRACT_HOST=real python3 -m pytest -v -p no:cacheprovider -o filterwarnings= tests/test_contract.py",
        timeout=400,
        check=False,
    )
    node.start()
    assert done.code == 0, done
    ran = [line for line in done.out.splitlines() if "[real]" in line]
    assert ran
    assert all("PASSED" in line for line in ran)


def _archive() -> bytes:
    import io
    import tarfile

    from tests.vm.node import PROJECT

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted((PROJECT / "tests").glob("*.py")):
            archive.add(path, f"tests/{path.name}")
        archive.add(PROJECT / "pyproject.toml", "pyproject.toml")
    return out.getvalue()
