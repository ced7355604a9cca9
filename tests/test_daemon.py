"""The whole daemon as a process, on a tree, with a socket in place of systemd."""

from __future__ import annotations

import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvsd.reconcile.reconciler import LULL
from tests.service import MAIN, QUIET, STATUS, Service, Until, free_port, holds_reserve
from tests.trees import LIVE, READY_LINE, put, put_sysctl, store, sysctl

pytestmark = pytest.mark.system

NO_BRIDGE = f"ready: {len(LIVE) - 1} modules, 7 sysctls compliant"
KEPT = "var/lib/ipvsd/last-good.json"

# --- start and stop ---------------------------------------------------------------------


def test_ready_follows_the_first_reconciliation_with_its_verdict(service: Service, until: Until) -> None:
    assert service.ready() == f"READY=1\nSTATUS={READY_LINE}"
    until((service.tree / STATUS).exists, "the status is published")
    assert service.status()["state"] == "ready"
    assert service.stop() == (
        0,
        [f"ipvsd: {READY_LINE}", "ipvsd: watch backend: inotify; not started"],
    )
    service.hears("STOPPING=1")


def test_the_first_reconciliation_repairs_all_that_is_possible(service: Service) -> None:
    put_sysctl(service.tree, "net.ipv4.ip_forward", "0")
    service.ready()
    assert sysctl(service.tree, "net.ipv4.ip_forward").read_text() == "1\n"
    _, log = service.stop()
    assert log[0] == "ipvsd: wrote net.ipv4.ip_forward: '1' (was '0')"


def test_ready_is_reported_for_a_failed_node_as_well(service: Service) -> None:
    put(service.tree, "proc/modules", "")
    assert "STATUS=failed: " in service.ready()
    assert service.stop()[0] == 0


def test_a_directory_for_the_status_that_is_missing_stops_nothing(service: Service) -> None:
    for path in ("run/ipvsd/conf.d", "run/ipvsd", "var/lib/ipvsd"):
        (service.tree / path).rmdir()
    service.ready()
    assert service.stop()[0] == 0


def test_a_strict_start_delays_ready_and_extends_the_timeout(service: Service) -> None:
    put(service.tree, MAIN, f"{QUIET}startup: {{mode: strict}}\n")
    put_sysctl(service.tree, "net.ipv4.vs.conntrack", "0")
    sysctl(service.tree, "net.ipv4.vs.expire_nodest_conn").unlink()
    service.start()
    service.hears("EXTEND_TIMEOUT_USEC=", "waiting up to ", "net.ipv4.vs.expire_nodest_conn")
    assert not any("READY=1" in message for message in service.said)
    put_sysctl(service.tree, "net.ipv4.vs.expire_nodest_conn", "1")
    put_sysctl(service.tree, "net.ipv4.ip_forward", "0")  # it has an event source; the missing file has none
    service.hears("READY=1", "STATUS=ready: ")


def test_a_strict_start_ends_at_its_limit(service: Service) -> None:
    put(service.tree, MAIN, f"{QUIET}startup: {{mode: strict, limit: 100ms}}\n")
    put(service.tree, "proc/modules", "")
    service.start()
    service.hears("READY=1", "STATUS=failed: ")
    assert any("the node is not ready after 0.1 s" in line for line in service.stop()[1])


def test_a_reload_can_end_a_strict_start(service: Service) -> None:
    put(service.tree, MAIN, f"{QUIET}startup: {{mode: strict}}\n")
    put(service.tree, "proc/modules", "")
    service.start()
    service.hears("EXTEND_TIMEOUT_USEC=")
    put(service.tree, MAIN, f"{QUIET}startup: {{mode: strict, limit: 0s}}\n")
    service.process.send_signal(signal.SIGHUP)
    service.hears("READY=1", "STATUS=failed: ")


def test_the_status_exists_during_a_strict_start_which_a_stop_ends(service: Service, until: Until) -> None:
    put(service.tree, MAIN, f"{QUIET}startup: {{mode: strict}}\n")
    put(service.tree, "proc/modules", "")
    service.start()
    until((service.tree / STATUS).exists, "the status is published")
    assert service.status()["state"] == "failed"
    assert service.stop()[0] == 0
    assert not any("READY=1" in message for message in service.said)
    assert not (service.tree / STATUS).exists()


def test_events_do_not_delay_the_resync(service: Service, until: Until) -> None:
    # Only a resync reads a file again that was named on the command line.
    mine = put(service.tree, "mine.yaml", f"{QUIET}interval: 1s\n")
    service.start("--config", str(mine))
    service.hears("READY=1")
    put(service.tree, "mine.yaml", f"{QUIET}interval: 2s\n")

    def stir() -> bool:
        put_sysctl(service.tree, "net.ipv4.ip_forward", "1")
        return bool(service.seen()["config"]["interval"] == 2.0)

    until((service.tree / STATUS).exists, "the status is published")
    until(stir, "the configuration is read again")
    assert service.stop()[0] == 0


# --- drift ------------------------------------------------------------------------------


def restored(file: Path) -> Callable[[], bool]:
    return lambda: file.read_text() == "1\n"


def test_a_sysctl_that_drifts_is_restored_by_its_event(service: Service, until: Until) -> None:
    service.ready()
    file = sysctl(service.tree, "net.ipv4.ip_forward")
    store(file, "0")
    until(restored(file), "it is restored")
    service.hears("STATUS=", "last repair net.ipv4.ip_forward 0 -> 1, under 1 min ago")
    _, log = service.stop()
    assert "wrote net.ipv4.ip_forward: '1' (was '0'); changed by an unknown process, repaired in" in log[-1]


def test_the_last_repairs_are_recorded_before_the_end(service: Service, until: Until) -> None:
    service.ready()
    store(sysctl(service.tree, "net.ipv4.ip_forward"), "0")
    until(restored(sysctl(service.tree, "net.ipv4.ip_forward")), "it is restored")
    assert any("wrote net.ipv4.ip_forward: '1' (was '0'); changed by" in line for line in service.stop()[1])


# A daemon that causes a drift itself at the end of one of its methods, and reports its state when it continues.
DRIFTING = """
import pathlib, sys
from ipvsd.daemon import main, main_loop
from ipvsd.runtime import sd_notify

file = pathlib.Path(sys.argv[1], "proc/sys/net/ipv4/ip_forward")

class Drifting(main_loop.Daemon):
    def drift(self, where, result):
        if self._startup.over and where == sys.argv[2]:
            file.write_text("0")
        return result

    def _reconcile(self, reasons):
        return self.drift("reconcile", super()._reconcile(reasons))

    def _publish(self, report):
        return self.drift("publish", super()._publish(report))

    def _wait(self):
        self._notifier.status("waiting with ip_forward " + file.read_text().strip())
        return super()._wait()

class Telling(sd_notify.SdNotify):
    def ready(self, status):
        super().ready(status + ", ip_forward " + file.read_text().strip())

sd_notify.SdNotify, main_loop.Daemon = Telling, Drifting
main.run(sys.argv[1])
"""


def test_a_drift_during_a_reconciliation_is_repaired_before_its_report(service: Service) -> None:
    service.start(program=("-c", DRIFTING, str(service.tree), "reconcile"))
    service.hears("READY=1", "ip_forward 1")
    service.process.send_signal(signal.SIGHUP)
    assert service.hears("READY=1").endswith("ip_forward 1")
    service.stop()


def test_a_drift_during_a_report_is_repaired_before_the_cleanup(service: Service) -> None:
    service.start(program=("-c", DRIFTING, str(service.tree), "publish"))
    assert service.hears("STATUS=waiting").endswith("ip_forward 1")
    service.stop()


def test_a_storm_of_writes_to_an_item_in_back_off_wakes_nothing(service: Service, until: Until) -> None:
    others = [f"net.test.key{number}" for number in range(20)]
    wanted = ", ".join(f"{name}: 1" for name in others)
    put(service.tree, MAIN, f"{QUIET}sysctls: {{net.ipv4.ip_forward: {{policy: observe}}, {wanted}}}\n")
    for name in ("net.ipv4.ip_forward", *others):
        put_sysctl(service.tree, name, "0")
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    looks, begun = service.seen()["reconciliations"], time.monotonic()
    # Each once: a value that is written again before the repairing reconciliation ends is one repair.
    for name in others:
        store(sysctl(service.tree, "net.ipv4.ip_forward"), "0")
        store(sysctl(service.tree, name), "0")
        until(restored(sysctl(service.tree, name)), "what was written after it is restored")
    until(lambda: service.repairs() == len(others), "the repairs told")
    lulls = (time.monotonic() - begun) / LULL
    # The start can cause some more. None of the 20 writes does.
    assert service.seen()["reconciliations"] <= looks + lulls + 6
    service.stop()


def test_the_watchdog_is_fed_in_half_its_period(service: Service) -> None:
    service.ready(WATCHDOG_USEC="100000")
    for _ in range(3):
        service.hears("WATCHDOG=1")
    assert service.stop()[0] == 0


# --- configuration ----------------------------------------------------------------------

BAD = f"{QUIET}schedular: rr\ninterval: soon\n"


def errors(tree: Path) -> list[str]:
    return [
        f"{tree}/{MAIN}:2: unknown key 'schedular' (did you mean 'scheduler'?)",
        f"{tree}/{MAIN}:3: interval: must be a duration, not a string (such as 60s, 5m)",
    ]


def test_an_invalid_configuration_without_a_last_good_one_exits_78(service: Service) -> None:
    put(service.tree, MAIN, BAD)
    put_sysctl(service.tree, "net.ipv4.ip_forward", "0")
    service.start()
    code, log = service.ends()
    assert code == 78
    assert [line for line in log if str(service.tree) in line] == [
        f"ipvsd: error: {text}" for text in errors(service.tree)
    ]
    assert sysctl(service.tree, "net.ipv4.ip_forward").read_text() == "0\n"
    service.hears("STATUS=invalid configuration: ")


def test_an_invalid_configuration_at_the_start_causes_the_last_good_one(service: Service, until: Until) -> None:
    put(service.tree, MAIN, f"{QUIET}bridgeNetfilter: false\n")
    service.ready()
    until((service.tree / KEPT).exists, "the configuration is kept")
    service.stop()
    put(service.tree, MAIN, BAD)
    line = service.ready()
    assert NO_BRIDGE in line
    assert "invalid configuration" in line
    until((service.tree / STATUS).exists, "the status is published")
    assert service.status()["config"]["errors"] == errors(service.tree)
    assert any("using the last good configuration" in text for text in service.stop()[1])


def test_sighup_reloads_between_two_messages(service: Service) -> None:
    service.ready()
    put(service.tree, MAIN, f"{QUIET}bridgeNetfilter: false\n")
    service.process.send_signal(signal.SIGHUP)
    service.hears("RELOADING=1\nMONOTONIC_USEC=")
    assert service.hears("READY=1") == f"READY=1\nSTATUS={NO_BRIDGE}"


def save(tree: Path, text: str) -> None:
    put(tree, MAIN, text)


def save_by_rename(tree: Path, text: str) -> None:
    put(tree, f"{MAIN}.tmp", text).replace(tree / MAIN)


def drop_in(tree: Path, text: str) -> None:
    put(tree, "etc/ipvsd/conf.d/10-mine.yaml", text.replace(QUIET, ""))


@pytest.mark.parametrize("change", [save, save_by_rename, drop_in], ids=lambda change: change.__name__)
def test_a_changed_file_is_read_by_itself(service: Service, until: Until, change: Callable[[Path, str], None]) -> None:
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    change(service.tree, f"{QUIET}bridgeNetfilter: false\n")
    service.hears(f"STATUS={NO_BRIDGE}")
    assert any("configuration loaded" in line for line in service.stop()[1])


def test_a_file_is_read_when_its_writer_closes_it(service: Service, until: Until) -> None:
    service.ready()
    until((service.tree / KEPT).exists, "the configuration is kept")
    good, hash_before = (service.tree / KEPT).read_bytes(), service.status()["config"]["hash"]
    with (service.tree / MAIN).open("w") as writer:
        writer.write(f"{QUIET}interval: 7s\n")
        writer.flush()
        until(lambda: "open for writing" in str(service.status()["notes"]), "the daemon sees that it is written")
        service.process.send_signal(signal.SIGHUP)
        service.hears("READY=1", READY_LINE)
        assert service.status()["config"]["hash"] == hash_before
        assert (service.tree / KEPT).read_bytes() == good
        writer.write("bridgeNetfilter: false\n")
    service.hears(f"STATUS={NO_BRIDGE}")
    until(lambda: service.status()["config"]["interval"] == 7.0, "the status tells of it")
    assert service.status()["notes"] == []
    log = service.stop()[1]
    assert len([line for line in log if "configuration loaded" in line]) == 1


def test_an_invalid_reload_keeps_the_active_configuration(service: Service, until: Until) -> None:
    service.ready()
    put(service.tree, MAIN, BAD)
    service.process.send_signal(signal.SIGHUP)
    said = service.hears("READY=1", READY_LINE, "invalid configuration", "schedular")
    assert said.isascii()
    until(lambda: service.status()["config"]["errors"] == errors(service.tree), "the status tells the errors")
    put_sysctl(service.tree, "net.ipv4.vs.conntrack", "0")
    until(lambda: sysctl(service.tree, "net.ipv4.vs.conntrack").read_text() == "1\n", "it still works")
    _, log = service.stop()
    assert "ipvsd: warning: ipvsd keeps using the previous configuration" in log


def test_many_reloads_change_no_item_and_leak_nothing(service: Service, until: Until) -> None:
    service.ready()
    counts: list[int] = []

    def is_waiting() -> bool:
        files = service.open_files()
        counts.append(len(files))
        return holds_reserve(files)

    service.process.send_signal(signal.SIGHUP)
    service.hears("READY=1")
    until(is_waiting, "the daemon waits")
    before = counts[-1]
    for _ in range(20):
        service.process.send_signal(signal.SIGHUP)
        service.hears("READY=1")
    # Files can be open now, and the child that queries IPVS can be running.
    until(lambda: is_waiting() and counts[-1] <= before + 1, "the descriptors are as many as before")
    _, log = service.stop()
    assert not [line for line in log if "wrote" in line or "loaded " in line]


# --- the web ----------------------------------------------------------------------------


def test_the_status_and_the_metrics_are_served(service: Service, until: Until) -> None:
    port = free_port()
    put(service.tree, MAIN, f'web: {{listen: ["127.0.0.1:{port}"]}}\n')
    service.ready()
    until(lambda: (service.source("web") or {"up": False})["up"], "it serves")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        assert answer.read() == f"{READY_LINE}\n".encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"\nipvsd_config_last_reload_successful 1.0\n" in answer.read()
