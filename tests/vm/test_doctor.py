"""ipvsd doctor on broken nodes: it reports the cause first, and nothing on a healthy node.

One machine serves all nodes, with a real kube-proxy (1.20.2, which uses iptables mode if it cannot use IPVS).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest

from ipvsd.conflicts.external_setting import Program
from ipvsd.doctor import sections
from ipvsd.kube_proxy import log_errors
from tests.vm import kubeproxy
from tests.vm.kubeproxy import CONFIG, KubeProxy
from tests.vm.node import Journal, Node, emptied

# They take a quarter of an hour, and depend on no other machine test.
pytestmark = pytest.mark.full

FAMILIES = ("IPv4",)
PATIENCE = 120  # seconds
MODULE = "ip_vs_sh"
CONF = "/etc/modprobe.d/bench.conf"


class Bench:
    """A node with a kube-proxy."""

    def __init__(self, node: Node) -> None:
        self.node, self.proxy = node, KubeProxy(node)

    def doctor(self, before: str = "", *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return the exit code and the document of `ipvsd doctor`, run by a command such as `nsenter`."""
        done = self.node.run(f"{before} ipvsd doctor --output json {' '.join(arguments)}".strip(), check=False)
        return done.code, json.loads(done.out)

    def identifiers(self, before: str = "") -> Sequence[str]:
        """Return the identifiers of all findings, the first one first."""
        return [item["id"] for item in self.doctor(before)[1]["findings"]]

    def begin(
        self, mode: str = "ipvs", scheduler: str = "rr", cleanup: bool = True, properties: Sequence[str] = ()
    ) -> None:
        """Start kube-proxy, and do not wait."""
        # With the default sync period, it would write the services again after 30 s.
        settings = {"ipvs": {"scheduler": scheduler, "syncPeriod": "1h0m0s"}}
        self.proxy.start(mode, FAMILIES, settings, cleanup, properties)

    def start(
        self, mode: str = "ipvs", scheduler: str = "rr", expected: str = "", cleanup: bool = True,
        properties: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Start kube-proxy, and wait until it reports its mode and has written its services."""
        self.begin(mode, scheduler, cleanup, properties)
        self.wait(expected or mode or "iptables")

    def wait(self, mode: str = "ipvs") -> None:
        self.node.until(lambda: self.mode() == mode, f"mode {mode}", PATIENCE)
        shown, service = ("ipvsadm -Ln", "10.96.0.10:80") if mode == "ipvs" else ("iptables-save -t nat", ":KUBE-SVC-")
        self.node.until(lambda: service in self.node.run(shown).out, "services", PATIENCE)

    def clean(self) -> None:
        """Stop kube-proxy, and let it remove its objects, as doctor and the guide print it."""
        self.proxy.stop()
        self.node.run("/opt/kube-proxy/kube-proxy --cleanup", check=False)

    def mode(self) -> str:
        """Return the actual mode, or an empty text while kube-proxy does not answer."""
        url = "http://127.0.0.1:10249/proxyMode"
        script = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=5).read().decode())"
        return self.node.run(["python3", "-c", script], check=False).out.strip()

    def stop(self) -> None:
        """Stop kube-proxy, and remove its objects."""
        self.clean()
        self.node.run("ip link delete kube-ipvs0; ipvsadm -C", check=False)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with kubeproxy.booted() as node:
        node.until(node.right, "the node right", PATIENCE)
        yield Bench(node)


@pytest.fixture
def node(bench: Bench) -> Iterator[Node]:
    yield bench.node
    bench.stop()
    bench.node.run(f"rm -f {CONF}")
    bench.node.until(bench.node.right, "the node right after the test", PATIENCE)


@pytest.fixture(autouse=True)
def _expected(journal: Journal) -> None:
    journal.expect(r".*")  # these tests are about doctor, not about the daemon's log


# --- healthy nodes ----------------------------------------------------------------------


def test_a_healthy_node_is_one_line_without_kube_proxy(bench: Bench, node: Node) -> None:
    assert bench.doctor() == (0, {**bench.doctor()[1], "findings": [], "unchecked": []})
    done = node.run("ipvsd doctor")
    assert " ".join(done.out.split()).endswith("; kube-proxy does not run")


def test_a_healthy_node_is_one_line_with_kube_proxy(bench: Bench, node: Node) -> None:
    bench.start()
    code, document = bench.doctor()

    assert (code, document["findings"], document["unchecked"]) == (0, [], [])
    assert document["kube_proxy"]["mode"] == "ipvs"
    assert document["kube_proxy"]["virtual_services"] > 5
    for command in ("check", "status"):
        shown = " ".join(node.run(f"ipvsd {command}").out.split())
        assert "kube-proxy: mode ipvs, scheduler rr, " in shown
        assert "ipvsd doctor" not in shown
    sample = 'ipvsd_kube_proxy_mode{mode="ipvs"}'  # from the query of the next resync
    node.until(lambda: node.metrics().get(sample) == 1, "the mode in the metrics", PATIENCE)


# --- broken nodes -----------------------------------------------------------------------

Broken = Callable[[Bench], AbstractContextManager[None]]


def run(command: str, undo: str = "", mode: str = "ipvs") -> Broken:
    """Return a node on which a command ran after kube-proxy had started in a mode, if one is named."""

    @contextmanager
    def broken(bench: Bench) -> Iterator[None]:
        if mode:
            bench.start(mode)
        try:
            bench.node.run(command)
            yield
        finally:
            bench.node.run(undo or "true")

    return broken


def started(mode: str, scheduler: str = "rr", expected: str = "") -> Broken:
    """Return a node on which kube-proxy was started with these settings."""

    @contextmanager
    def broken(bench: Bench) -> Iterator[None]:
        bench.start(mode, scheduler, expected)
        yield

    return broken


@contextmanager
def not_restarted(bench: Bench) -> Iterator[None]:
    bench.start("iptables")
    # A file in its place, as from a ConfigMap. kube-proxy ends if its own file is written.
    bench.node.machine.put(json.dumps({**CONFIG, "mode": "ipvs"}).encode(), "/run/kube-proxy.new")
    bench.node.run("mv /run/kube-proxy.new /run/kube-proxy.yaml")
    yield


@contextmanager
def fell_back(bench: Bench) -> Iterator[None]:
    """kube-proxy started while a module was blocked. The module is live now."""
    with blocked(bench, f"install {MODULE} /bin/false"):
        bench.start("ipvs", expected="iptables")
    bench.node.until(lambda: bench.node.live(MODULE), f"{MODULE} live", PATIENCE)
    yield


@contextmanager
def blocked(bench: Bench, line: str) -> Iterator[None]:
    bench.node.run(f"echo '{line}' > {CONF}; rmmod {MODULE}")
    try:
        yield
    finally:
        bench.node.run(f"rm -f {CONF}; systemctl restart ipvsd")


def line_of_modprobe_d(line: str) -> Broken:
    return lambda bench: blocked(bench, line)


@contextmanager
def without_file(bench: Bench) -> Iterator[None]:
    with bench.node.without(MODULE):
        yield


@contextmanager
def scheduler_without_file(bench: Bench) -> Iterator[None]:
    with bench.node.without("ip_vs_lblcr"):
        bench.start("ipvs", "lblcr", "iptables")
        yield


@contextmanager
def emptied_table(bench: Bench) -> Iterator[None]:
    bench.start()

    def reported() -> bool:
        bench.node.run("ipvsadm -C")  # each time, because kube-proxy may have had more services to write
        return "table_empty" in bench.identifiers()

    bench.node.until(reported, "an empty table", PATIENCE)  # in the first minute, that is normal
    yield


@contextmanager
def remains_of_ipvs(bench: Bench) -> Iterator[None]:
    bench.start("ipvs")
    bench.proxy.stop()
    with bench.node.configured("profiles: [lvs-full]\n"):
        bench.start("iptables", cleanup=False)
        yield
        bench.stop()


@contextmanager
def remains_of_iptables(bench: Bench) -> Iterator[None]:
    bench.start("iptables")
    bench.proxy.stop()
    bench.start("ipvs", cleanup=False)
    yield


@contextmanager
def daemon_stopped(bench: Bench, command: str) -> Iterator[None]:
    bench.node.run(f"systemctl stop ipvsd; {command}")
    try:
        yield
    finally:
        bench.node.start()


@contextmanager
def full_table(bench: Bench) -> Iterator[None]:
    with bench.node.configured("sysctls: {net.netfilter.nf_conntrack_max: false}\n"):
        bench.node.run("ping -c 1 127.0.0.1; conntrack -L | wc -l", check=False)
        bench.node.run("sysctl -w net.netfilter.nf_conntrack_max=$(sysctl -n net.netfilter.nf_conntrack_count)")
        yield
        bench.node.run("sysctl -w net.netfilter.nf_conntrack_max=262144")


def refused(mode: str, scheduler: str = "rr") -> Broken:
    """Return a node on which kube-proxy exits because of a value."""

    @contextmanager
    def broken(bench: Bench) -> Iterator[None]:
        bench.proxy.start(mode, FAMILIES, {"ipvs": {"scheduler": scheduler}})
        bench.node.until(lambda: any("Invalid value" in line for line in bench.proxy.log()), "an error", PATIENCE)
        yield

    return broken


@contextmanager
def managed_interface(bench: Bench) -> Iterator[None]:
    bench.start()
    file = "/etc/systemd/network/10-bench.network"
    bench.node.machine.put(b"[Match]\nName=kube-ipvs0\n\n[Network]\nLinkLocalAddressing=no\n", file)
    bench.node.run("systemctl start systemd-networkd; networkctl reload")
    try:
        state = "/run/systemd/netif/links/$(cat /sys/class/net/kube-ipvs0/ifindex)"
        bench.node.until(
            lambda: "ADMIN_STATE=conf" in bench.node.run(f"cat {state}", check=False).out, "managed", PATIENCE
        )
        yield
    finally:
        bench.node.run(f"rm {file}; networkctl reload")


IP_FORWARD = "/etc/sysctl.d/99-bench.conf"
NODES: dict[str, tuple[Broken, str]] = {
    "mode iptables": (started("iptables"), "mode_not_ipvs"),
    "no mode": (started(""), "mode_not_ipvs"),
    "configuration changed without a restart": (not_restarted, "kube_proxy_not_restarted"),
    "fallback to iptables": (fell_back, "mode_mismatch"),
    "unknown scheduler": (refused("ipvs", "round-robin"), "kube_proxy_scheduler_unknown"),
    "scheduler without a module": (scheduler_without_file, "scheduler_unavailable"),
    "scheduler that ipvsd does not know of": (started("ipvs", "lc"), "configurations_differ"),
    "mode in capitals": (refused("IPVS"), "kube_proxy_mode_unknown"),
    "empty table": (emptied_table, "table_empty"),
    "remains of IPVS mode": (remains_of_ipvs, "ipvs_remains"),
    "remains of iptables mode": (remains_of_iptables, "iptables_remains"),
    "module blacklisted": (line_of_modprobe_d(f"blacklist {MODULE}"), "module_blacklisted"),
    "module overridden": (line_of_modprobe_d(f"install {MODULE} /bin/false"), "module_overridden"),
    "module missing": (without_file, "module_absent"),
    "module unloaded, and no daemon": (
        lambda bench: daemon_stopped(bench, f"rmmod {MODULE}"), "module_loadable",
    ),
    "sysctl changed, and no daemon": (
        lambda bench: daemon_stopped(bench, "sysctl -w net.ipv4.ip_forward=0"), "sysctl_noncompliant",
    ),
    "file that sets a sysctl": (
        run(f"echo 'net.ipv4.ip_forward = 0' > {IP_FORWARD}", f"rm {IP_FORWARD}"), "file_undoes_configuration",
    ),
    "unknown name in modules-load.d": (
        run("echo nf_conntrack_ipv4 > /etc/modules-load.d/bench.conf", "rm /etc/modules-load.d/bench.conf"),
        "modules_load_fails",
    ),
    "table of connections full": (full_table, "conntrack_full"),
    "ipset missing": (run("mv $(command -v ipset) /root/ipset", "mv /root/ipset /usr/sbin/ipset"), "ipset_missing"),
    "interface managed by networkd": (managed_interface, "interface_managed"),
    "a kernel without modules": (
        run(
            "mkdir -p /lib/modules/9.9.9/kernel && touch /lib/modules/9.9.9/modules.dep && depmod 9.9.9",
            "rm -r /lib/modules/9.9.9",
        ),
        "kernel_not_ready",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_the_cause_is_reported_first(name: str, bench: Bench, node: Node) -> None:
    broken, expected = NODES[name]
    with ExitStack() as stack:
        stack.enter_context(broken(bench))
        found: Sequence[str] = ()

        def reported() -> bool:
            nonlocal found
            found = bench.identifiers()
            return found[:1] == [expected]

        try:
            bench.node.until(reported, expected, 30)
        finally:
            assert found[:1] == [expected], found
        _, document = bench.doctor()
        text = bench.node.run("ipvsd doctor", check=False).out
    assert document["findings"][0]["fix"]
    assert document["findings"][0]["summary"][:30] in " ".join(text.split())


def test_another_network_namespace_is_reported_first(bench: Bench, node: Node) -> None:
    assert bench.identifiers("ip netns exec pod1")[0] == "other_network_namespace"


def test_a_wrong_mode_is_fixed_as_printed(bench: Bench, node: Node) -> None:
    with fell_back(bench):
        (found, *_) = bench.doctor()[1]["findings"]
        command = (
            found["fix"].partition("run 'ipvsd check'; as soon as every module is live, run '")[2].partition("'")[0]
        )
        node.run(command)
        node.until(lambda: bench.mode() == "ipvs", "mode ipvs", PATIENCE)
        node.until(lambda: bench.identifiers() == ["iptables_remains"], "the remains of the fallback", PATIENCE)
        (found,) = bench.doctor()[1]["findings"]
        assert found["fix"] == "stop kube-proxy, run 'kube-proxy --cleanup' (or reboot), and start it again"
        bench.clean()
        bench.start()
        node.until(lambda: bench.identifiers() == [], "no finding", PATIENCE)


def test_check_and_status_refer_to_doctor(bench: Bench, node: Node) -> None:
    bench.start("iptables")
    for command in ("check", "status"):
        shown = " ".join(node.run(f"ipvsd {command}", check=False).out.split())
        assert "kube-proxy: mode iptables (this contradicts the configuration: run 'ipvsd doctor')" in shown


def test_a_bundle_is_private_and_has_the_log(bench: Bench, node: Node) -> None:
    bench.start()
    node.run("ipvsd doctor --bundle /root/bundle.tar.gz")
    assert node.run("stat -c %a /root/bundle.tar.gz").out.strip() == "600"
    node.run("mkdir -p /root/bundle && tar -C /root/bundle -xf /root/bundle.tar.gz")
    assert "ipvs" in node.run("cat /root/bundle/ipvsd-bundle/kube-proxy-start.log").out


# --- the troubleshooting guide ----------------------------------------------------------

NO_MODPROBE = "InaccessiblePaths=/usr/sbin/modprobe"  # as in a container image without it
Fix = Callable[[Bench], None]


class Problem(NamedTuple):
    """A cause in the guide, its effect, and its fix, which begins after the cause that is a context has ended."""

    broken: Broken
    effect: Callable[[Bench], bool]
    fix: Fix


@contextmanager
def without_ip_vs(bench: Bench) -> Iterator[None]:
    """A node without ipvsd and IPVS, and a kube-proxy that cannot load modules."""
    # Unlike `modprobe -r`, this keeps connection tracking.
    bench.node.run("systemctl stop ipvsd; rmmod $(ls /sys/module/ip_vs/holders); rmmod ip_vs")
    bench.begin(properties=[NO_MODPROBE])
    yield


@contextmanager
def without_conntrack(bench: Bench) -> Iterator[None]:
    """A node without ipvsd and its modules, and a kube-proxy that cannot load them."""
    emptied(bench.node)
    bench.begin(properties=[NO_MODPROBE])
    yield


@contextmanager
def without(bench: Bench, module: str) -> Iterator[None]:
    """A node on which the package with a module is not installed, or its file is missing."""
    with bench.node.without(module):
        bench.begin()
        yield


@contextmanager
def without_ipset(bench: Bench) -> Iterator[None]:
    bench.node.run("mv /usr/sbin/ipset /root/ipset")
    try:
        bench.begin()
        yield
    finally:
        bench.node.run("mv /root/ipset /usr/sbin/ipset")  # there is no network for 'apt install ipset'


@contextmanager
def without_dummy(bench: Bench) -> Iterator[None]:
    bench.node.run("systemctl stop ipvsd; ip link delete kube-ipvs0; rmmod dummy; echo 'install dummy /bin/false' "
                   f"> {CONF}", check=False)  # fmt: skip
    bench.begin()
    yield
    bench.node.run(f"rm {CONF}")


@contextmanager
def read_only(bench: Bench) -> Iterator[None]:
    """kube-proxy has to change a sysctl, and its /proc/sys is read-only."""
    bench.node.run("systemctl stop ipvsd; sysctl -w net.ipv4.vs.conntrack=0")
    bench.begin(properties=["ReadOnlyPaths=/proc/sys"])
    yield


@contextmanager
def port_in_use(bench: Bench) -> Iterator[None]:
    bench.node.run("systemd-run -q --unit bench-port python3 -m http.server --bind 127.0.0.1 10249")
    bench.begin()
    yield


def logs(text: str) -> Callable[[Bench], bool]:
    return lambda bench: any(text in line for line in bench.proxy.log())


def finds(identifier: str) -> Callable[[Bench], bool]:
    return lambda bench: identifier in bench.identifiers()


def runs(mode: str) -> Callable[[Bench], bool]:
    return lambda bench: bench.mode() == mode


def restart(bench: Bench) -> None:
    """Restart kube-proxy, and remove what the other mode has left."""
    bench.clean()
    bench.proxy.restart()
    bench.wait()


def after(command: str) -> Fix:
    """Return a fix that consists of a command and a restart of kube-proxy."""

    def fix(bench: Bench) -> None:
        bench.node.run(command)
        restart(bench)

    return fix


def set_mode(bench: Bench) -> None:
    bench.clean()
    bench.start()


def keep_running(bench: Bench) -> None:
    """kube-proxy tries again, within its sync period, or after the restart."""
    bench.proxy.restart()
    bench.wait()


def exclude_interface(bench: Bench) -> None:
    """Write the file that `ipvsd doctor` prints."""
    file = "/etc/systemd/network/00-kube-ipvs0.network"
    text = b"[Match]\nName=kube-ipvs0\n\n[Link]\nUnmanaged=yes\n"
    bench.node.machine.put(text, file)
    bench.node.run("networkctl reload")
    bench.node.until(lambda: "unmanaged" in bench.node.run("networkctl list kube-ipvs0").out, "unmanaged", PATIENCE)
    bench.node.run(f"rm {file}")


@contextmanager
def table_of_connections_full(bench: Bench) -> Iterator[None]:
    bench.node.run("systemctl stop ipvsd; ping -c 1 127.0.0.1", check=False)
    bench.node.run("sysctl -w net.netfilter.nf_conntrack_max=$(sysctl -n net.netfilter.nf_conntrack_count)")
    yield


PROBLEMS: dict[str, Problem] = {
    log_errors.CANT_USE: Problem(
        without_ip_vs, runs("iptables"), after("systemctl start ipvsd"),
    ),
    log_errors.IPSET_VERSION: Problem(without_ipset, runs("iptables"), restart),
    log_errors.DUMMY_VS: Problem(scheduler_without_file, runs("iptables"), set_mode),
    log_errors.LOAD_MODULES: Problem(fell_back, runs("iptables"), restart),
    log_errors.USING_IPTABLES: Problem(started(""), runs("iptables"), set_mode),
    log_errors.UNKNOWN_MODE: Problem(refused("IPVS"), logs("ProxyMode: Invalid value"), set_mode),
    log_errors.SCHEDULER_NOT_FOUND: Problem(refused("ipvs", "round-robin"), logs("Invalid value"), set_mode),
    log_errors.CONNTRACK_MAX: Problem(
        without_conntrack, logs("nf_conntrack_max: no such file or directory"), after("systemctl start ipvsd"),
    ),
    log_errors.SET_SYSCTL: Problem(read_only, logs("can't set sysctl"), after("systemctl start ipvsd")),
    log_errors.RESTORE: Problem(lambda bench: without(bench, "xt_comment"), logs("iptables-restore"), keep_running),
    log_errors.MAKE_SET: Problem(
        lambda bench: without(bench, "ip_set_bitmap_port"), logs("ailed to make sure"), keep_running,
    ),
    log_errors.DUMMY: Problem(without_dummy, logs("ummy interface"), after("systemctl start ipvsd")),
    log_errors.IN_USE: Problem(port_in_use, logs("address already in use"), after("systemctl stop bench-port")),
    sections.EMPTY_TABLE: Problem(emptied_table, finds("table_empty"), keep_running),
    sections.REMAINS: Problem(remains_of_iptables, finds("iptables_remains"), set_mode),
    sections.TABLE_FULL: Problem(
        table_of_connections_full, finds("conntrack_full"), after("systemctl start ipvsd"),
    ),
    sections.INTERFACE: Problem(managed_interface, finds("interface_managed"), exclude_interface),
}  # fmt: skip

# The other sections: the tests of their causes and fixes, or the reason for having none.
ELSEWHERE = {
    sections.MODULE_NOT_FOUND: "test_verdicts.py",
    sections.MODULE_BLOCKED: "test_verdicts.py, test_remedies.py",
    sections.VERSION_MAGIC: "test_verdicts.py",
    sections.UNSIGNED: "test_verdicts.py",
    sections.MODULES_LOAD: "tests/test_next_boot.py (lines that systemd-modules-load cannot load), and NODES above",
    sections.SYSCTL_MISSING: "tests/test_next_boot.py (a sysctl that can be set only after its module was loaded)",
    sections.SYSCTL_CHANGED: "test_rivals.py, and the sandboxes of tests/differential",
    sections.CONTAINER: "test_container.py",
    sections.DENIED: "no profile of the machine denies what kube-proxy does",
    sections.NO_ANSWER: "test_doctor.py; here an effect of causes in other sections",
    sections.UNHEALTHY: "an effect of causes in other sections",
    sections.REMOVED: "Debian has no kube-proxy 1.35",
    sections.FIREWALLD: "the machine has no firewalld",
}


@pytest.mark.carries_out(Program.NETWORKD)
@pytest.mark.parametrize("section", PROBLEMS)
def test_the_fix_of_a_section_of_the_guide_works(section: str, bench: Bench, node: Node) -> None:
    problem = PROBLEMS[section]
    try:
        with problem.broken(bench):
            node.until(lambda: problem.effect(bench) or None, section, PATIENCE)
            if section == sections.INTERFACE:
                problem.fix(bench)  # its file has to precede the one of the cause
        if section != sections.INTERFACE:
            problem.fix(bench)
        node.until(lambda: bench.identifiers() == [] or None, "no finding", PATIENCE)
        assert bench.mode() == "ipvs"
    finally:
        node.run(f"rm -f {CONF}; systemctl start ipvsd")


# The last test, because the kernel's log keeps the line until the next boot.
def test_a_denial_is_reported(bench: Bench, node: Node) -> None:
    line = (
        'audit: type=1400 audit(1700000000.1:2): apparmor="DENIED" operation="open" '
        'profile="cri-containerd.apparmor.d" name="/proc/sys/net/ipv4/vs/conntrack" comm="kube-proxy"'
    )
    node.run(f"echo '{line}' > /dev/kmsg; journalctl --sync")
    assert bench.identifiers() == ["denied_by_security_module"]
