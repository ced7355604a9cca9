"""A cold boot: all items are compliant before kubelet starts."""

from __future__ import annotations

from tests.vm.node import MODULES, SYSCTLS, Journal, Node


def test_kubelet_finds_every_module_and_every_sysctl(node: Node) -> None:
    modules = {line.split()[0]: line.split()[4] for line in node.found_by_kubelet["modules"].splitlines()}
    sysctls = dict(line.split(" = ") for line in node.found_by_kubelet["sysctls"].splitlines())
    assert {name: modules.get(name) for name in MODULES} == dict.fromkeys(MODULES, "Live")
    assert sysctls == SYSCTLS
    assert node.found_by_kubelet["ipvsd"] == "active\n"


def test_kubelet_starts_after_ready(node: Node) -> None:
    assert 0 < node.ready_at <= node.kubelet_at


def test_the_status_is_what_an_operator_wants_to_read(node: Node) -> None:
    assert node.status_line().startswith(node.ready_line())
    done = node.run("ipvsd status")
    assert done.out.startswith(node.ready_line())
    assert max(map(len, done.out.splitlines())) <= 80


def test_ipvs_itself_replies(node: Node) -> None:
    said = node.ipvs_answer()
    assert said["version"].startswith("1.2")
    # The kernel's own text. Since 7.0, it has no table before its first service.
    assert f"size={said['table_size']})" in node.run("cat /proc/net/ip_vs").out
    assert node.metrics()["ipvsd_ipvs_up"] == 1


def test_check_and_status_need_no_root(node: Node) -> None:
    user = "setpriv --reuid 65534 --regid 65534 --clear-groups"
    assert node.run(f"{user} ipvsd status").code == 0
    done = node.run(f"{user} ipvsd check")
    assert "IPVS: not queried, because the query requires root" in done.out
    assert node.run(f"{user} ipvsd plan").out == "nothing to do\n"
    assert node.run(f"{user} ipvsd apply").code == 0


def test_apply_without_root_reports_this_and_changes_nothing(node: Node) -> None:
    node.run("systemctl stop ipvsd; sysctl -w net.ipv4.ip_forward=0")
    done = node.run("setpriv --reuid 65534 --regid 65534 --clear-groups ipvsd apply", check=False)
    assert (done.code, done.err) == (
        77,
        "ipvsd: cannot apply the configuration: root required "
        "(run the command with sudo; 'ipvsd plan' does not need root)\n",
    )
    assert node.sysctl("net.ipv4.ip_forward") == "0"
    node.start()


def test_plan_and_apply_without_a_daemon(node: Node) -> None:
    node.run("systemctl stop ipvsd; rmmod ip_vs_sh; sysctl -w net.ipv4.ip_forward=0")
    plan = node.run("ipvsd plan --exit-code", check=False)
    assert plan.code == 1
    assert "- net.ipv4.ip_forward = 0\n+ net.ipv4.ip_forward = 1\n" in plan.out
    assert "+ module ip_vs_sh\n" in plan.out
    assert node.run("ipvsd check", check=False).code == 1
    assert node.run("ipvsd status", check=False).code == 2
    assert node.run("ipvsd apply").out.startswith("set net.ipv4.ip_forward from '0' to '1'\nload module ip_vs_sh\n")
    assert node.right()
    assert node.run("ipvsd plan --exit-code").out == "nothing to do\n"
    node.start()


def test_a_strict_start_holds_kubelet_back_until_its_limit_and_says_why(node: Node, journal: Journal) -> None:
    journal.expect(
        r"module no_such_module: absent: ",
        r"startup.mode strict: the node is not ready after 20 s; sending READY=1 anyway",
        r"failed: ",
    )
    node.run("systemctl stop kubelet ipvsd")
    config = "startup: {mode: strict, limit: 20s}\nmodules: {no_such_module: {}}\n"
    node.machine.put(config.encode(), "/etc/ipvsd/conf.d/strict.yaml")
    node.machine.put(b"[Service]\nTimeoutStartSec=10\n", "/run/systemd/system/ipvsd.service.d/bench.conf")
    try:
        node.run("systemctl daemon-reload; systemctl start --no-block ipvsd kubelet")
        node.until(lambda: "startup.mode: strict" in node.status_line(), "the status while it waits")
        assert "no_such_module absent" in node.status_line()
        assert node.show("ActiveState") == "activating"
        assert node.show("ActiveState", "kubelet") == "inactive"
        node.until(lambda: node.show("ActiveState", "kubelet") == "active", "kubelet started at the limit")
        assert node.show("ActiveState") == "active"
        assert node.show("NRestarts") == "0"
    finally:
        node.run("rm -r /etc/ipvsd/conf.d/strict.yaml /run/systemd/system/ipvsd.service.d; systemctl daemon-reload")
        node.start()
