"""Each reason for an absent module: caused on a real kernel, reported, and removed according to the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipvsd.conflicts.external_setting import Program
from ipvsd.model.value_texts import text_of
from ipvsd.model.verdicts import ModuleVerdict
from tests.vm.node import Journal, Node

UNPACK = Path(__file__).parent / "guest" / "unpack.py"
CONF = "/etc/modprobe.d/bench.conf"
FAST = "interval: 2s\n"
MODULE = "ip_vs_sh"
STUB = "nf_conntrack_ipv4"


@pytest.fixture(autouse=True)
def _looks_often(node: Node, journal: Journal) -> Iterator[None]:
    journal.expect(r"module \S+( \(optional\))?: (blacklisted|overridden|index stale|absent|not built|load failed): ")
    journal.expect(r"module \S+: compression unsupported: ")
    journal.expect(r"no, not today")  # from the command of an install line
    journal.expect(
        r"module \S+: (signature refused|capability missing|modules disabled|built for a different kernel): "
    )
    with node.configured(FAST):
        yield
        _restore(node)  # after any result of the test, because the machine serves the next one
        node.run(f"rm -f {CONF}")


@contextmanager
def unloaded(node: Node, module: str = MODULE) -> Iterator[None]:
    node.run(f"rmmod {module}")
    yield
    node.until(lambda: node.live(module), f"{module} live again", 60)


def verdict(node: Node, expected: str, module: str = MODULE) -> tuple[str, str]:
    """Wait for a verdict, and return its evidence and its remedy."""
    node.until(lambda: node.finding(module)["verdict"] == expected, f"{module} {expected}")
    found = node.finding(module)
    assert f"{module} {text_of(expected)}: {found['remedy']}" in node.status_line()
    assert node.run("ipvsd check", check=False).code == 1
    assert node.metrics()[f'ipvsd_module_verdict{{module="{module}",verdict="{expected}"}}'] == 1
    return found["evidence"], found["remedy"]


@pytest.mark.carries_out(ModuleVerdict.BLACKLISTED, ModuleVerdict.OVERRIDDEN, Program.MODPROBE)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"blacklist {MODULE}", "blacklisted"),
        ("blacklist ip-vs-sh", "blacklisted"),
        (f"install {MODULE} /bin/true", "overridden"),
        (f"install {MODULE} /bin/false", "overridden"),
        (f"install {MODULE} echo no, not today >&2; exit 1", "overridden"),
    ],
)
def test_a_line_of_modprobe_d(node: Node, line: str, expected: str) -> None:
    # Written into an existing file, like an editor does. libkmod would not detect the change.
    node.run(f"echo '# the bench' > {CONF}")
    node.until(lambda: node.run("ipvsd status").code == 0, "right before")
    node.run(f"echo '{line}' >> {CONF}")
    with unloaded(node):
        evidence, remedy = verdict(node, expected)
        assert f"{CONF}:2: " in evidence
        assert not node.live(MODULE)
        assert remedy.startswith("remove '")
        assert f"' from {CONF}, or set" in remedy
        node.run(f"sed -i 2d {CONF}")
    node.run(f"rm {CONF}")


TREE = "/lib/modules/$(uname -r)/kernel/net/netfilter/ipvs"


def _file(node: Node) -> str:
    """Return the path of the module's file. A copy is in /root."""
    path = node.run(f"modinfo -n {MODULE}").out.strip()
    node.run(f"cp -a {path} /root/")
    return path


def _plain(node: Node, option: str = "") -> str:
    """Return the path of the module's file, uncompressed. A copy of the compressed one is in /root."""
    node.machine.put(UNPACK.read_bytes(), "/root/unpack.py")
    plain = node.run(f"python3 /root/unpack.py {option} {_file(node)}").out.strip()
    node.run("depmod")
    return plain


def _restore(node: Node) -> None:
    """Restore the copy in /root, if there is one."""
    node.run(f"! ls /root/{MODULE}.ko* || (rm -f {TREE}/{MODULE}.ko* && mv /root/{MODULE}.ko* {TREE}/ && depmod)")


@pytest.mark.carries_out(ModuleVerdict.INDEX_STALE)
def test_a_file_that_the_index_does_not_list(node: Node) -> None:
    path = _file(node)
    node.run(f"mv {path} /root/ && depmod && cp -a /root/{MODULE}.ko* {path}")
    with unloaded(node):
        evidence, remedy = verdict(node, "index_stale")
        assert path in evidence
        node.run(remedy.removeprefix("run '").removesuffix("'"))


@pytest.mark.carries_out(ModuleVerdict.COMPRESSION_UNSUPPORTED)
def test_a_file_whose_compression_kmod_does_not_support(node: Node) -> None:
    assert "-ZLIB" in node.run("kmod --version").out  # Debian 12 builds kmod without it
    path = _plain(node)
    release = node.run("uname -r").out.strip()
    node.run(f"gzip {path} && depmod")
    with unloaded(node):
        evidence, remedy = verdict(node, "compression_unsupported")
        assert evidence == f"{path}.gz is compressed with gzip, which this kmod does not support"
        decompress = f"decompress the files and run 'depmod -a {release}'"
        assert remedy == f"install a kmod that supports gzip, or {decompress}"
        node.run(f"gunzip {path}.gz && depmod -a {release}")


def test_a_file_that_is_gone(node: Node) -> None:
    release = node.run("uname -r").out.strip()
    node.run(f"rm {_file(node)} && depmod")
    with unloaded(node):
        _, remedy = verdict(node, "absent")
        assert remedy.startswith("run 'apt install --reinstall linux-")
        assert remedy.endswith(f"{release}'")
        _restore(node)  # there is no network here, so the test restores the content of that package


def test_an_option_that_was_left_out(node: Node) -> None:
    said = {"ip_vs_bench": "does not contain CONFIG_IP_VS_BENCH"}
    if "# CONFIG_IP_VS_TWOS is not set" in node.run("cat /boot/config-$(uname -r)").out:
        said["ip_vs_twos"] = "contains '# CONFIG_IP_VS_TWOS is not set'"
    for name, evidence in said.items():
        with node.configured(f"{FAST}modules: {{{name}: {{}}}}\n"):
            found, remedy = verdict(node, "not_built", name)
            assert found.endswith(evidence)
            assert remedy == f"boot a kernel that was built with CONFIG_{name.upper()}"


def test_a_module_made_for_another_kernel(node: Node) -> None:
    path = _plain(node, "--unsign")
    release = node.run("uname -r").out.strip()
    other = f"9{release[1:]}"
    # If symbols have versions, the kernel compares only the text after the release.
    node.run(f"sed -i 's/vermagic={release} SMP/vermagic={other} UP /' {path}")
    with unloaded(node):
        evidence, remedy = verdict(node, "vermagic_mismatch")
        assert f"built for kernel {other}, not {release}" in evidence
        assert "version magic" in evidence  # the kernel's own message
        assert remedy.startswith("replace the module file with one that was built for this kernel (run 'apt install")
        _restore(node)


def test_a_signature_that_does_not_fit(node: Node) -> None:
    path = _plain(node)
    node.run(f"sed -i 's/license=GPL/license=GPl/' {path}")
    with unloaded(node):
        evidence, remedy = verdict(node, "signature_refused")
        assert "Key was rejected by service" in evidence
        assert remedy.startswith("use a file that is signed with a key that the kernel trusts")
        _restore(node)


def test_a_kernel_that_demands_signatures(node: Node) -> None:
    _plain(node, "--unsign")
    node.run("echo Y > /sys/module/module/parameters/sig_enforce")
    with unloaded(node):
        evidence, _ = verdict(node, "signature_refused")
        assert "module.sig_enforce=1" in evidence
        _restore(node)
    node.machine.reboot()  # it cannot be disabled again
    node.machine.booted()


def test_a_kernel_with_disabled_module_loading(node: Node, journal: Journal) -> None:
    journal.expect(r"failed: ")
    node.run(f"systemctl stop ipvsd; rmmod {MODULE}; sysctl -qw kernel.modules_disabled=1; systemctl start ipvsd")
    node.until(node.status, "status.json")
    evidence, remedy = verdict(node, "modules_disabled")
    assert evidence == "kernel.modules_disabled is 1"
    assert remedy == "run 'ipvsd apply --persist' and reboot: modules-load.d is applied before sysctl.d"
    node.machine.reboot()
    node.machine.booted()
    node.until(lambda: node.live(MODULE), "live after the reboot")


def test_a_file_that_is_not_a_module_is_reported_with_the_message_of_the_kernel(node: Node) -> None:
    node.run(f"truncate -s 3000 {_plain(node, '--unsign')}")
    with unloaded(node):
        evidence, remedy = verdict(node, "load_failed")
        assert "Exec format error" in evidence or "Invalid argument" in evidence
        assert "journalctl -k" in remedy
        _restore(node)


def test_a_container_lacks_the_capability(node: Node) -> None:
    node.run("systemctl stop ipvsd; rmmod ip_vs_sh")
    done = node.run("setpriv --bounding-set=-sys_module ipvsd check", check=False)
    applied = node.run("setpriv --bounding-set=-sys_module ipvsd apply", check=False)
    node.start()
    assert done.code == 1
    assert "! ip_vs_sh capability missing" in " ".join(done.out.split())
    assert "run 'modprobe ip_vs_sh' on the host" in " ".join(done.out.split())
    assert applied.code == 1


def test_an_alias_and_alternatives(node: Node) -> None:
    text = "ip_conntrack: {}, first: {anyOf: [no_such_module, nft_numgen]}, there: {anyOf: [nft_numgen, ip_vs]}"
    with node.configured(f"{FAST}modules: {{{text}}}\n"):
        node.until(lambda: node.finding("first")["compliant"], "one of the alternatives")
        assert node.finding("first")["module"] == "nft_numgen"
        assert node.finding("first")["evidence"].startswith("nft_numgen: ")
        assert node.finding("there")["compliant"]
        assert node.finding("ip_conntrack")["module"] == "nf_conntrack"
        assert node.finding("ip_conntrack")["evidence"] == "alias of nf_conntrack: /proc/modules: Live"
        assert "first live as nft_numgen" in " ".join(node.run("ipvsd check").out.split())
        node.run("rmmod nft_numgen")
        node.until(lambda: node.live("nft_numgen"), "the alternative back")
    node.run("rmmod nft_numgen", check=False)
