"""Programs that set the same sysctls: their changes are repaired and attributed, and contention ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ipvsd.conflicts.external_setting import Program
from ipvsd.model.verdicts import SysctlVerdict
from tests.vm.node import UNLOAD_IPVS, Journal, Node
from tests.vm.test_writers import FILE, KEY, count, last, names_processes, repaired

CIS = "/etc/sysctl.d/99-cis.conf"
CONTENDED = rf"{KEY} is contended: repaired more than \d+ times in 60 s, last changed (probably )?by .*"
OVER = rf"{KEY} is no longer contended"
# The interfaces follow ip_forward at each write, so a check between a write and its repair finds them changed.
SEEN = rf"sysctl ({KEY}|net\.ipv4\.conf\.\*\.forwarding)( \(optional\))?: (contended|yielded|noncompliant): "
METRIC = f'ipvsd_sysctl_contended{{sysctl="{KEY}"}}'


@pytest.fixture
def cis(node: Node) -> Iterator[None]:
    """A file of a hardening guide that disables forwarding."""
    node.machine.put(b"# CIS 3.2.1\nnet.ipv4.ip_forward = 0\n", CIS)
    yield
    node.run(f"rm {CIS}; systemctl disable --now tuned", check=False)


@contextmanager
def rival(node: Node, pause: str, times: int) -> Iterator[None]:
    """A unit that writes the other value repeatedly."""
    node.run(
        "systemd-run -q --unit=rival sh -c "
        f"'for i in $(seq {times}); do echo 0 > {FILE}; sleep {pause}; done; sleep 1000'"
    )
    try:
        yield
    finally:
        node.run("systemctl stop rival")


def explained(node: Node) -> str:
    """Return the output of explain in one line."""
    return " ".join(node.run(f"ipvsd explain {KEY}", check=False).out.split())


@pytest.mark.carries_out(Program.SYSTEMD_SYSCTL, Program.PROCPS)
@pytest.mark.usefixtures("cis")
@pytest.mark.parametrize(
    ("command", "comm"),
    [("sysctl --system", "sysctl"), ("systemctl restart systemd-sysctl systemd-networkd", "systemd-sysctl")],
)
def test_a_program_that_applies_the_files_again_is_repaired(node: Node, command: str, comm: str) -> None:
    before = count(node, "repairs")
    node.run(command)
    node.until(lambda: count(node, "repairs") > before, "a repair")
    assert node.sysctl(KEY) == "1"
    if names_processes():
        assert last(node)["writer"]["comm"] == comm
    told = node.run(f"ipvsd explain {KEY}", check=False)
    assert told.code == 1
    assert f"{CIS}:2" in told.out
    assert f"-> correct the line in {CIS}, or remove it" in " ".join(told.out.split())
    node.run(f"sed -i 2d {CIS}")
    assert CIS not in explained(node)
    before = count(node, "drifts")
    node.run(command)
    assert (node.sysctl(KEY), count(node, "drifts")) == ("1", before)


@pytest.mark.usefixtures("cis")
def test_a_switch_of_tuned_profiles_is_repaired_each_time(node: Node) -> None:
    node.run("systemctl enable --now tuned")  # it applies the files again for profiles with their own sysctls
    for profile in ("throughput-performance", "network-throughput"):
        before = count(node, "repairs")
        node.run(f"tuned-adm profile {profile}", timeout=120)
        node.until(lambda before=before: count(node, "repairs") > before, "a repair", 60)  # type: ignore[misc]
        assert node.sysctl(KEY) == "1"
        assert last(node)["writer"]["unit"] == "tuned.service"
    assert "TuneD" in node.run(f"ipvsd explain {KEY}", check=False).out


@pytest.mark.carries_out(Program.TUNED, Program.REAPPLY)
@pytest.mark.usefixtures("cis")
def test_the_remedies_for_tuned_help(node: Node) -> None:
    profile = "/etc/tuned/bench-closed"
    node.machine.put(b"[sysctl]\nnet.ipv4.ip_forward = 0\n", f"{profile}/tuned.conf")
    try:
        node.run("systemctl enable --now tuned", timeout=120)
        node.run("tuned-adm profile bench-closed", timeout=120)
        told = explained(node)
        assert f"{profile}/tuned.conf:2 net.ipv4.ip_forward=0 (takes effect; not compliant)" in told
        assert "-> choose a different profile, or create a profile" in told
        assert f"-> correct the line in {CIS}, or set 'reapply_sysctl_exclude = {KEY}'" in told
        node.run("tuned-adm profile throughput-performance", timeout=120)
        node.run(f"sed -i 2d {CIS}")
        assert "TuneD" not in explained(node)
        node.run("systemctl restart tuned", timeout=120)
        assert node.sysctl(KEY) == "1"
    finally:
        node.run(f"rm -r {profile}")


@pytest.mark.carries_out(SysctlVerdict.CONTENDED)
def test_a_conflicting_program_is_named_once_and_then_left_alone(node: Node, journal: Journal) -> None:
    journal.expect(CONTENDED, OVER, SEEN)
    with node.configured("contention: {quiet: 5s}\ninterval: 3s\n"):
        before = count(node, "repairs")
        with rival(node, "0.1", 600):
            node.until(lambda: node.metrics()[METRIC] == 1, "contended", 90)
            assert count(node, "repairs") - before >= 20
            (item,) = node.status()["contended"]
            assert (item["name"], item["yielded"]) == (KEY, False)
            assert "rival.service" in item["conflicting_program"]
            assert "contended" in node.status_line()
            assert "rival.service" in node.status_line()
            node.run("sleep 20")  # the other program continues, which is the subject of the test
            assert count(node, "repairs") - before <= 40
        node.until(lambda: node.metrics()[METRIC] == 0, "no fight any more", 60)
        assert node.sysctl(KEY) == "1"
        assert len([line for line in journal.lines() if "is contended: " in line]) == 1
        assert "rival.service" in next(line for line in journal.lines() if "is contended: " in line)
        repaired(node, f"sysctl -qw {KEY}=0", "held as before")


def test_a_yielded_sysctl_stays_with_the_other_program(node: Node, journal: Journal) -> None:
    journal.expect(CONTENDED, OVER, SEEN)
    config = f"interval: 2s\ncontention: {{repairs: 3}}\nsysctls: {{{KEY}: {{policy: yield, required: false}}}}\n"
    with node.configured(config):
        with rival(node, "0.2", 20):
            node.until(lambda: [item["yielded"] for item in node.status()["contended"]] == [True], "yielded", 60)
            node.until(lambda: node.sysctl(KEY) == "0", "the rival's next write")
        looks = node.metrics()["ipvsd_reconciliation_duration_seconds_count"]
        node.until(lambda: node.metrics()["ipvsd_reconciliation_duration_seconds_count"] >= looks + 2, "two looks")
        assert node.sysctl(KEY) == "0"
        assert node.status()["state"] == "ready"
        assert node.finding(KEY)["verdict"] == "yielded"


def test_a_storm_costs_little_and_ends_compliant(node: Node, journal: Journal) -> None:
    journal.expect(CONTENDED, OVER, SEEN)
    spent = "awk '{print $14 + $15}' /proc/$(systemctl show --value -p MainPID ipvsd)/stat"
    with node.configured("contention: {quiet: 5s}\ninterval: 10s\n"):
        node.machine.put(STORM.encode(), "/root/storm.py")
        before = int(node.run(spent).out)
        written = int(node.run(f"python3 /root/storm.py {FILE} 15", timeout=60).out)
        ticks = int(node.run(spent).out) - before
        assert written >= 5000
        assert ticks <= 0.2 * 15 * 100
        node.until(lambda: node.sysctl(KEY) == "1" and node.metrics()[METRIC] == 0, "right, and no fight", 60)
    assert len(journal.lines()) < 100


STORM = """
import os, sys, time
descriptor, end = os.open(sys.argv[1], os.O_WRONLY), time.monotonic() + float(sys.argv[2])
due, written = time.monotonic(), 0
while due < end:
    os.pwrite(descriptor, b"0\\n", 0)
    written += 1
    due += 0.001
    time.sleep(max(0, due - time.monotonic()))
print(written)
"""


def test_the_ipvs_table_that_was_lost_is_told(node: Node, journal: Journal) -> None:
    journal.expect(r"all IPVS virtual services were lost with module ip_vs: 2 before, 0 now \(kube-proxy writes")
    journal.expect(
        r"(module ip_vs\w*: (load failed|loading|unloading)|sysctl net\.ipv4\.vs\.\S+: (pending|unsupported)): "
    )
    with node.configured("interval: 1s\n"):
        node.run("ipvsadm -A -t 10.0.0.1:80 -s rr; ipvsadm -A -u 10.0.0.1:53 -s rr")
        looks = node.metrics()["ipvsd_reconciliation_duration_seconds_count"]
        node.until(lambda: node.metrics()["ipvsd_reconciliation_duration_seconds_count"] >= looks + 3, "looks")
        node.run(f"systemctl kill -s STOP ipvsd; ipvsadm -C; {UNLOAD_IPVS}; systemctl kill -s CONT ipvsd")
        node.until(lambda: any("services were lost" in line for line in journal.lines()), "told")


def test_what_is_guarded_is_refused_but_to_whom_may(node: Node, journal: Journal) -> None:
    journal.expect(rf"{KEY} is guarded: the kernel refused (a write|\d+ writes) of '0' by ")
    sample = f'ipvsd_sysctl_refused_writes_total{{sysctl="{KEY}"}}'
    with node.configured(f"guard: {{allow: [friend.service]}}\nsysctls: {{{KEY}: {{guard: true}}}}\n"):
        before = count(node, "drifts")
        refused = node.run(f"sysctl -w {KEY}=0", check=False)
        assert refused.code != 0
        assert node.sysctl(KEY) == "1"
        node.until(lambda: node.metrics()[sample] >= 1, "the refusal told")
        assert count(node, "drifts") == before
        assert node.run("echo 0 > /proc/sys/net/ipv4/conf/all/forwarding", check=False).code != 0
        assert node.run(f"unshare --net sh -c 'echo 1 > {FILE}; echo 0 > {FILE}; cat {FILE}'").out == "0\n"
        node.until(lambda: node.metrics()[sample] >= 2, "this refusal told")
        refusals = node.metrics()[sample]
        # After the reconciliation that reported it, the next one comes in a minute.
        node.run(f"systemd-run -q --wait --unit=friend sh -c 'sleep 1; echo 0 > {FILE}'")
        node.until(lambda: count(node, "repairs") == before + 1, "it may write, and is turned back")
        assert node.metrics()[sample] == refusals
        old = node.show("MainPID")
        node.run(f"kill -KILL {old}")
        # The kernel detaches the program a moment later, and the next daemon starts after two seconds.
        node.until(lambda: node.run(f"sysctl -w {KEY}=1", check=False).code == 0, "nothing refused")
        node.until(lambda: node.show("MainPID") not in ("0", old) and node.show("ActiveState") == "active", "a new one")
        looks = node.status()["boottime"]
        node.until(lambda: node.status()["boottime"] > looks or node.status()["reconciliations"] < 5, "its status")
