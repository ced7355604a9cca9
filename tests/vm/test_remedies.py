"""Remedies carried out literally, each after its problem was caused on a real kernel.

Some are not carried out: packages to install and kernels to run (there is no network), signatures (there is no key),
and `wait`. docs/remedies.md lists them. The marker `carries_out` names the problems whose remedy a test applies; other
files have such tests, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipvsd.conflicts.external_setting import Program
from ipvsd.decide import remedies
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from tests.vm.node import Journal, Node, emptied

FULL = pytest.mark.full
CONF = "/etc/modprobe.d/bench.conf"
FAST = "interval: 2s\n"


@pytest.fixture(autouse=True)
def _looks_often(node: Node, journal: Journal) -> Iterator[None]:
    journal.expect(r"module \S+( \(optional\))?: (blacklisted|overridden|invalid options|no index): ")
    journal.expect(r"module \S+( \(optional\))?: (file missing|absent|merged): ")
    journal.expect(r"module \S+: load failed: ")
    journal.expect(r"(sysctl )?\S+( \(optional\))?: (pending|unsupported|noncompliant|write failed)")
    journal.expect(r"failed: ")
    with node.configured(FAST):
        yield
        node.run(f"rm -f {CONF}; depmod")
        node.run("systemctl reset-failed ipvsd; systemctl restart ipvsd")
        node.until(lambda: node.run("ipvsd status", check=False).code == 0, "right again", 90)


def answers(node: Node) -> tuple[int, int, str, str]:
    """Return the exit codes of preflight and of apply, and the output of check and explain about ip_vs."""
    preflight = node.run("ipvsd preflight --kernel $(uname -r)", check=False)
    check = node.run("ipvsd check", check=False)
    explain = node.run("ipvsd explain ip_vs", check=False)
    apply = node.run("ipvsd apply", check=False)
    return preflight.code, apply.code, " ".join(f"{preflight.out} {check.out}".split()), " ".join(explain.out.split())


@pytest.mark.carries_out(ModuleVerdict.LOADABLE, SysctlVerdict.PENDING)
def test_a_dependency_that_is_blacklisted_is_loaded_all_the_same(node: Node) -> None:
    emptied(node)
    node.run(f"echo 'blacklist nf_conntrack' > {CONF}")
    preflight, apply, said, _ = answers(node)
    assert (preflight, apply) == (0, 0), said
    assert node.live("nf_conntrack")
    assert "nf_conntrack loadable not loaded yet; the blacklist line has no effect, because the module is a " in said
    assert "dependency of ip_vs" in said
    assert "net.ipv4.vs.conntrack pending" in said
    assert node.sysctl("net.ipv4.vs.conntrack") == "1"


@pytest.mark.parametrize(
    "command", ["/bin/true", *(pytest.param(item, marks=FULL) for item in ("/bin/false", "logger no"))]
)
def test_a_dependency_that_an_install_line_keeps_out(node: Node, command: str) -> None:
    emptied(node)
    line = f"install nf_defrag_ipv6 {command}"
    node.run(f"echo '# bench' > {CONF}; echo '{line}' >> {CONF}")
    preflight, apply, said, explained = answers(node)
    assert (preflight, apply) == (1, 1), said
    assert f"overridden: needs nf_defrag_ipv6: {CONF}:2: {line}" in said
    assert f"remove '{line}' from {CONF}" in explained
    node.run(f"sed -i 2d {CONF}")
    assert node.run("ipvsd apply", check=False).code == 0


@FULL
def test_an_install_line_that_loads_the_dependency_is_no_trouble(node: Node) -> None:
    emptied(node)
    node.run(f"echo 'install nf_defrag_ipv6 /sbin/modprobe -i nf_defrag_ipv6 && logger loaded' > {CONF}")
    preflight, apply, said, _ = answers(node)
    assert (preflight, apply) == (0, 0), said


@pytest.mark.parametrize(
    ("line", "parameter"),
    [
        ("options nf_conntrack hashsize = 262144", "hashsize"),
        # Of type bool: it needs no value, and an unknown one is ignored.
        pytest.param("options nf_conntrack acct = 1", "", marks=FULL),
        pytest.param("options nf_conntrack no_such_parameter = 1", "", marks=FULL),
        pytest.param("options ip_vs conn_tab_bits", "conn_tab_bits", marks=FULL),
    ],
)
@pytest.mark.carries_out(ModuleVerdict.INVALID_OPTIONS)
def test_options_with_spaces(node: Node, line: str, parameter: str) -> None:
    emptied(node)
    node.run(f"echo '{line}' > {CONF}")
    module = line.split()[1]
    tried = node.run(f"modprobe {module}", check=False)
    node.run(f"rmmod {module}", check=False)
    preflight, apply, said, explained = answers(node)
    assert (tried.code, preflight, apply) == ((1, 1, 1) if parameter else (0, 0, 0)), (tried, said)
    if parameter:
        assert "Invalid argument" in tried.err
        assert f"{CONF}:1: {line}: the kernel reads {parameter} as a parameter without a value" in said
        assert f"write {parameter}=VALUE (without spaces) in {CONF}" in explained
        node.run(f"echo 'options {module} {parameter}=12' > {CONF}")
        assert node.run("ipvsd apply", check=False).code == 0


@pytest.mark.carries_out(ModuleVerdict.NO_INDEX)
def test_a_tree_without_an_index(node: Node) -> None:
    emptied(node)
    node.run("rm /lib/modules/$(uname -r)/modules.*.bin /lib/modules/$(uname -r)/modules.dep")
    preflight, apply, said, _ = answers(node)
    assert (preflight, apply) == (1, 1), said
    remedy = f"run 'depmod -a {node.run('uname -r').out.strip()}'"
    assert "no index: " in said
    assert remedy in said
    node.run(remedy.removeprefix("run '").removesuffix("'"))
    assert node.run("ipvsd apply", check=False).code == 0


def test_a_dependency_whose_file_is_gone(node: Node) -> None:
    emptied(node)
    file = node.run("modinfo -n nf_defrag_ipv6").out.strip()
    node.run(f"mv {file} /root/")
    preflight, apply, said, _ = answers(node)
    node.run(f"mv /root/{file.rpartition('/')[2]} {file}")  # there is no network here: the content of a package
    assert (preflight, apply) == (1, 1), said
    assert "file missing: needs nf_defrag_ipv6: modules.dep lists" in said
    assert "apt install --reinstall linux-" in said
    assert node.run("ipvsd apply", check=False).code == 0


@pytest.mark.carries_out(ModuleVerdict.MERGED)
def test_a_name_that_the_kernel_gave_up(node: Node) -> None:
    with node.configured(f"{FAST}modules: {{nf_conntrack_ipv4: {{}}}}\n"):
        node.until(lambda: node.finding("nf_conntrack_ipv4")["verdict"] == "merged", "told as merged")
        remedy = node.finding("nf_conntrack_ipv4")["remedy"]
    assert remedy == "use nf_conntrack instead"
    with node.configured(f"{FAST}modules: {{{remedy.split()[1]}: {{}}}}\n"):
        node.until(lambda: node.run("ipvsd status").code == 0, "right with the name that took it over")


def logged_by_modules_load(node: Node) -> str:
    """Let systemd-modules-load apply its files again, and return its messages."""
    unit = "systemd-modules-load"
    node.run(f"systemctl restart {unit}", check=False)  # in newer versions, it does not fail
    return node.run(
        f"journalctl --sync; journalctl -q -o cat _SYSTEMD_INVOCATION_ID={node.show('InvocationID', unit)}"
    ).out


@pytest.mark.carries_out(Program.MODULES_LOAD)
def test_a_line_of_modules_load_d_that_fails(node: Node, journal: Journal) -> None:
    file = "/etc/modules-load.d/bench.conf"
    journal.expect(rf"{file}:1: systemd-modules-load cannot load ")
    node.run(f"echo nf_conntrack_ipv4 > {file}")
    try:
        assert "Failed to find module 'nf_conntrack_ipv4'" in logged_by_modules_load(node)
        said = " ".join(node.run("ipvsd preflight --kernel $(uname -r)", check=False).out.split())
        assert f"{file}:1: systemd-modules-load cannot load 'nf_conntrack_ipv4'" in said
        assert "(write nf_conntrack, or remove the line)" in said
        node.run(f"echo nf_conntrack > {file}")
        assert "Failed" not in logged_by_modules_load(node)
        assert f"{file}:1" not in node.run("ipvsd preflight --kernel $(uname -r)", check=False).out
    finally:
        node.run(f"rm {file}; systemctl restart systemd-modules-load")


@pytest.mark.carries_out(SysctlVerdict.NONCOMPLIANT)
def test_a_sysctl_that_is_changed_while_no_daemon_runs(node: Node) -> None:
    node.run("systemctl stop ipvsd; sysctl -qw net.ipv4.ip_forward=0")
    said = " ".join(node.run("ipvsd check", check=False).out.split())
    assert "net.ipv4.ip_forward noncompliant 0 (desired 1)" in said
    assert remedies.APPLY in said
    assert node.run("ipvsd apply").code == 0
    assert node.sysctl("net.ipv4.ip_forward") == "1"


@pytest.mark.carries_out(SysctlVerdict.UNSUPPORTED)
def test_a_sysctl_that_the_kernel_lacks(node: Node) -> None:
    key = "net.ipv4.ipvsd_bench"
    with node.configured(f"{FAST}sysctls: {{{key}: {{value: 1, required: false}}}}\n"):
        node.until(lambda: node.finding(key)["verdict"] == "unsupported", "reported as unsupported")
        assert node.finding(key)["remedy"] == remedies.UNSUPPORTED
        assert f"{key} unsupported" in " ".join(node.run("ipvsd check").out.split())
    with node.configured(FAST):
        node.until(lambda: key not in node.run("ipvsd check").out, "a node without it")
