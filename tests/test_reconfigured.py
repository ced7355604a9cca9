"""A value that is no longer desired has not drifted, because only the configuration has changed."""

from __future__ import annotations

import signal

import pytest

from ipvsd.state import repair_history
from tests.asking import said
from tests.fake_kernel import FORWARD
from tests.service import MAIN, QUIET, STATUS, Service, Until
from tests.test_recorder import Log, RecordedNode, node
from tests.trees import put

__all__ = ["node"]

RMEM = "net.ipv4.tcp_rmem"


def configure(node: RecordedNode, text: str) -> None:
    node.configure(f"profiles: []\n{text}")


def untouched(node: RecordedNode) -> bool:
    values = node.recorder.counters.values
    return (values.drifts, values.repairs, node.recorder.repairs, node.repairs()) == ({}, {}, (), [])


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        pytest.param(f"sysctls: {{{FORWARD}: 1}}", f"sysctls: {{{FORWARD}: 0}}",
                     [f"configuration changed: set {FORWARD} from '1' to '0'"], id="a value"),
        pytest.param(f"sysctls: {{{RMEM}: 4096 131072 6291456}}", f"sysctls: {{{RMEM}: 8192 131072 6291456}}",
                     [f"configuration changed: set {RMEM} from '4096 131072 6291456' to '8192 131072 6291456'"],
                     id="words"),
        pytest.param(f"sysctls: {{{FORWARD}: {{value: 0, policy: observe}}}}", f"sysctls: {{{FORWARD}: 0}}",
                     [f"configuration changed: set {FORWARD} from '1' to '0'"], id="a policy"),
        pytest.param(
            "sysctls: {net.ipv4.conf.*.arp_ignore: 0}", "sysctls: {net.ipv4.conf.*.arp_ignore: 1}",
            [
                "configuration changed: set net.ipv4.conf.all.arp_ignore from '0' to '1'",
                "configuration changed: set net.ipv4.conf.default.arp_ignore from '0' to '1'",
                "configuration changed: set net.ipv4.conf.lo.arp_ignore from '0' to '1'",
            ], id="a pattern",
        ),
        pytest.param("modules: {nf_conntrack: {parameters: {hashsize: 16384}}}",
                     "modules: {nf_conntrack: {parameters: {hashsize: 32768}}}",
                     ["configuration changed: set nf_conntrack.hashsize from '16384' to '32768'"], id="a parameter"),
        pytest.param(f"sysctls: {{{FORWARD}: 1}}", f"sysctls: {{{FORWARD}: 1, {RMEM}: 8192 131072 6291456}}",
                     [f"wrote {RMEM}: '8192 131072 6291456' (was '4096 131072 6291456')"], id="one more"),
    ],
)  # fmt: skip
def test_a_changed_configuration_is_logged_as_such_and_not_counted(
    node: RecordedNode, capsys: Log, before: str, now: str, lines: list[str]
) -> None:
    configure(node, before)
    capsys.readouterr()
    configure(node, now)
    assert sorted(said(capsys)) == lines
    assert untouched(node)
    node.round()
    assert (said(capsys), untouched(node)) == ([], True)


def test_a_later_drift_is_a_drift(node: RecordedNode, capsys: Log) -> None:
    configure(node, f"sysctls: {{{FORWARD}: 0}}")
    capsys.readouterr()
    node.kernel.values[FORWARD] = "1"
    node.round()
    assert said(capsys)[0].startswith(f"wrote {FORWARD}: '0' (was '1'); changed ")
    assert node.recorder.counters.values.drifts == node.recorder.counters.values.repairs == {FORWARD: 1}


def test_a_drift_before_the_change_is_not_counted_as_a_repair_after_it(node: RecordedNode) -> None:
    node.kernel.refused[FORWARD] = 1
    node.lose()
    assert node.recorder.counters.values.drifts == {FORWARD: 1}
    node.kernel.refused.clear()
    node.kernel.values[FORWARD] = "1"
    configure(node, f"sysctls: {{{FORWARD}: 0}}")
    assert node.kernel.values[FORWARD] == "0"
    assert (node.recorder.counters.values.drifts, node.recorder.repairs) == ({FORWARD: 1}, ())


def test_an_item_that_never_complied_with_the_new_configuration_does_not_drift(node: RecordedNode) -> None:
    node.kernel.refused[FORWARD] = 1
    configure(node, f"sysctls: {{{FORWARD}: 0}}")
    for _ in range(3):
        node.round()
    assert untouched(node)


def test_the_effect_of_a_configuration_is_not_attributed(service: Service, until: Until) -> None:
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    put(service.tree, MAIN, f"{QUIET}sysctls: {{net.ipv4.vs.conntrack: 0}}\n")
    service.process.send_signal(signal.SIGHUP)
    service.hears("READY=1")
    log = service.stop()[1]
    assert "ipvsd: configuration changed: set net.ipv4.vs.conntrack from '1' to '0'" in log
    assert not [line for line in log if "changed by" in line or "repair" in line]
    assert not (service.tree / repair_history.PATH).exists() or repair_history.read(str(service.tree)).repairs == []
