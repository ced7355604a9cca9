from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.modprobe_d import aliases, directives, from_command_line, rules

NAMES = ["ip_vs", "ip_vs_sh"]


@pytest.mark.parametrize(
    ("text", "line", "rule", "forbids"),
    [
        pytest.param("blacklist ip_vs_sh", 1, "blacklist ip_vs_sh", True, id="blacklist"),
        pytest.param("\n# why\nblacklist ip-vs-sh", 3, "blacklist ip_vs_sh", True, id="dashes"),
        pytest.param("  blacklist\tip_vs_sh  ", 1, "blacklist ip_vs_sh", True, id="blanks"),
        pytest.param("blacklist \\\n ip_vs_sh", 1, "blacklist ip_vs_sh", True, id="a line that goes on"),
        pytest.param("install ip_vs_* /bin/true", 1, "install ip_vs_* /bin/true", True, id="pattern"),
        pytest.param("blacklist ip_vs_\\\nsh", 1, "blacklist ip_vs_sh", True, id="a name that goes on"),
        pytest.param("install ip_vs_sh true && x", 1, "install ip_vs_sh true && x", False, id="more than nothing"),
        pytest.param("install ip_vs_sh /bin/true", 1, "install ip_vs_sh /bin/true", True, id="true"),
        pytest.param("install ip_vs_sh /usr/bin/false # 1", 1, "install ip_vs_sh /usr/bin/false # 1", True, id="false"),
        pytest.param("install ip_vs_sh :", 1, "install ip_vs_sh :", True, id="colon"),
        pytest.param("install ip_vs_sh modprobe -i x", 1, "install ip_vs_sh modprobe -i x", False, id="a command"),
        pytest.param("install ip_vs_sh x\nblacklist ip_vs_sh", 2, "blacklist ip_vs_sh", True, id="what forbids counts"),
    ],
)
def test_a_line_that_keeps_a_module_out(text: str, line: int, rule: str, forbids: bool) -> None:
    found = rules(directives([("/etc/modprobe.d/a.conf", text)]), NAMES)
    assert set(found) == {"ip_vs_sh"}
    assert (found["ip_vs_sh"].origin, found["ip_vs_sh"].text) == (f"/etc/modprobe.d/a.conf:{line}", rule)
    assert found["ip_vs_sh"].forbids is forbids


@pytest.mark.parametrize(
    "text",
    ["", "#blacklist ip_vs", "blacklist", "options ip_vs conn_tab_bits=20", "softdep ip_vs pre: x", "blacklist ip_vs*"],
)
def test_a_line_that_keeps_nothing_out(text: str) -> None:
    assert rules(directives([("a", text)]), NAMES) == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("BOOT_IMAGE=/vmlinuz quiet modprobe.blacklist=ip_vs,ip-vs-sh", NAMES),
        ("module_blacklist=ip_vs", ["ip_vs"]),
        ("quiet", []),
        ("not_modprobe.blacklist=ip_vs", []),
    ],
)
def test_the_command_line_can_keep_modules_out(text: str, names: list[str]) -> None:
    assert sorted(rules(from_command_line(text), NAMES)) == names


def test_the_first_alias_wins() -> None:
    found = directives([("a", "alias ip_conntrack nf_conntrack\nalias ip_* other")])
    assert aliases(found, ["ip_conntrack", "ip_x", "y"]) == {"ip_conntrack": "nf_conntrack", "ip_x": "other"}


COMMAND = st.sampled_from(["blacklist", "install", "alias", "#", ""])
LINE = st.text(max_size=60) | st.builds("{} {} {}".format, COMMAND, st.text(max_size=10), st.text(max_size=20))


@given(st.lists(LINE, max_size=8).map("\n".join), st.text(max_size=80))
def test_no_text_is_an_error(text: str, command_line: str) -> None:
    found = (*directives([("a", text)]), *from_command_line(command_line))
    rules(found, [*NAMES, ""])
    aliases(found, NAMES)
