"""An invalid configuration changes nothing, and every error is reported."""

from __future__ import annotations

import pytest

from tests.vm.node import DROP_IN, Journal, Node

LAUGHS = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x]"]
    + [f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]" for before, name in zip("abcdefg", "bcdefgh")]
)
# An invalid setting, and its error message.
BROKEN = {
    "unknown key": ("schedular: sh\n", "1: unknown key 'schedular' (did you mean 'scheduler'?)"),
    "duplicate key": ("interval: 5s\ninterval: 6s\n", "2: duplicate key 'interval' (first on line 1)"),
    "module name": ("modules:\n  'ip_vs; reboot': {}\n", "2: modules.ip_vs; reboot: invalid module name"),
    "leaves /proc/sys": ("sysctls:\n  net/../../../etc/passwd: 1\n", "invalid sysctl name"),
    "absolute": ("sysctls: {/etc/passwd: 1}\n", "invalid sysctl name"),
    "newline": ('sysctls: {net.ipv4.ip_forward: "1\\n0"}\n', "must be one line"),
    "other type": ("profiles: kube-proxy-ipvs\n", "1: profiles: must be a list, not a string"),
    "explosion": (LAUGHS + "\n", "expands to more than"),
    "no YAML": ("modules: [\n", "invalid YAML"),
    "list for a value": (
        "sysctls:\n  net.ipv4.tcp_rmem: [4096, 131072, 6291456]\n",
        "2: sysctls.net.ipv4.tcp_rmem: must be a string or an integer, not a list "
        '(quote the value: "4096 131072 6291456")',
    ),
    "too large": ("#" * (1 << 20) + "\n#\n", "is larger than 1048576 bytes"),
}
REFUSED = r"cannot use the configuration:"


def _expect(journal: Journal) -> None:
    journal.expect(REFUSED, r"/etc/ipvsd/conf\.d/bench\.yaml(:\d+)?: ", r"ipvsd keeps using the previous configuration")


@pytest.mark.parametrize("name", BROKEN)
def test_after_a_reload_the_active_configuration_stays_active(node: Node, journal: Journal, name: str) -> None:
    _expect(journal)
    text, error = BROKEN[name]
    state, hash_ = node.state(), node.status()["config"]["hash"]
    node.machine.put(text.encode(), DROP_IN)
    node.run("systemctl reload ipvsd")
    errors = node.until(lambda: node.status()["config"]["errors"], "the refusal")
    assert any(error in line for line in errors)
    assert f"{DROP_IN}:" in errors[0]
    assert errors[0][:60] in node.status_line()
    assert any(error in line for line in journal.lines())
    assert node.metrics()["ipvsd_config_last_reload_successful"] == 0
    assert node.status()["config"]["hash"] == hash_
    assert node.state() == state
    assert node.run("ipvsd config validate", check=False).code == 78
    assert node.run("ipvsd check", check=False).code == 78
    node.run(f"rm {DROP_IN}")  # without a reload, because the change itself is detected
    node.until(lambda: node.metrics()["ipvsd_config_last_reload_successful"] == 1, "the good one again")


@pytest.mark.parametrize("name", list(BROKEN)[:10])
def test_at_the_start_the_last_good_configuration_is_used_with_the_same_messages(
    node: Node, journal: Journal, name: str
) -> None:
    _expect(journal)
    journal.expect(r"using the last good configuration")
    text, error = BROKEN[name]
    with node.configured("interval: 33s\n"):
        state = node.state()
        node.run("systemctl stop ipvsd")
        node.machine.put(text.encode(), DROP_IN)
        node.start()
        assert node.status()["config"]["interval"] == 33
        assert any(error in line for line in node.status()["config"]["errors"])
        assert any(error in line for line in journal.lines())
        assert "invalid configuration" in node.status_line()
        assert node.state() == state


def test_without_a_last_good_one_it_exits_78_and_does_not_block_kubelet(node: Node, journal: Journal) -> None:
    _expect(journal)
    journal.expect(r"missing last good configuration")
    node.run("systemctl stop ipvsd kubelet; rm /var/lib/ipvsd/last-good.json; sysctl -w net.ipv4.ip_forward=0")
    node.machine.put(b"nonsense: 1\n", DROP_IN)
    node.run("systemctl start ipvsd kubelet", check=False)
    assert node.show("ExecMainStatus") == "78"
    assert node.show("ActiveState", "kubelet") == "active"
    assert node.sysctl("net.ipv4.ip_forward") == "0"
    node.run(f"rm {DROP_IN}")
    node.until(lambda: node.show("ActiveState") == "active", "a start by itself once the file is good")


def test_a_file_that_others_can_write_is_not_trusted(node: Node, journal: Journal) -> None:
    _expect(journal)
    node.run(f"echo 'interval: 5s' > {DROP_IN}; chmod 666 {DROP_IN}; systemctl reload ipvsd")
    errors = node.until(lambda: node.status()["config"]["errors"], "the refusal")
    remedy = f"run 'chown root:root {DROP_IN}' and 'chmod 0644 {DROP_IN}'"
    assert errors == [f"{DROP_IN}: users other than root can write the file ({remedy})"]
    node.run(f"rm {DROP_IN}; systemctl reload ipvsd")


def test_a_file_that_is_replaced_by_an_editor_is_read_without_a_reload(node: Node) -> None:
    node.run(f"echo 'interval: 40s' > {DROP_IN}")
    node.until(lambda: node.status()["config"]["interval"] == 40, "the new file")
    node.run(f"echo 'interval: 41s' > {DROP_IN}.tmp && mv {DROP_IN}.tmp {DROP_IN}")
    node.until(lambda: node.status()["config"]["interval"] == 41, "the renamed file")
    node.run(f"rm {DROP_IN}")
    node.until(lambda: node.status()["config"]["interval"] == 60, "the default")


def test_a_drop_in_masks_one_of_the_same_name_below_it(node: Node) -> None:
    node.run("echo 'interval: 44s' > /usr/lib/ipvsd/conf.d/vendor.yaml; systemctl reload ipvsd")
    node.until(lambda: node.status()["config"]["interval"] == 44, "the vendor's drop-in")
    node.run("ln -s /dev/null /etc/ipvsd/conf.d/vendor.yaml")
    node.until(lambda: node.status()["config"]["interval"] == 60, "the mask")
    node.run("rm /etc/ipvsd/conf.d/vendor.yaml /usr/lib/ipvsd/conf.d/vendor.yaml; systemctl reload ipvsd")
    node.until(lambda: len(node.status()["config"]["files"]) == 1, "both gone")
