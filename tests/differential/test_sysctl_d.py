"""Generated directories of sysctl.d(5), judged by systemd-sysctl and by `sysctl --system` on a real /proc/sys/net."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ipvsd.conflicts.file_tree import FileTree
from ipvsd.conflicts.sysctl_d import ApplyResult, procps_lines, simulate_procps, simulate_systemd_sysctl, systemd_lines
from tests.differential.judge import fill
from tests.differential.sandbox import breadth, dice, judged

pytestmark = pytest.mark.differential

LINKS = ("all", "default", "lo")
KEYS = [
    "net/ipv4/ip_forward",
    *(f"net/ipv4/conf/{link}/{parameter}" for parameter in ("forwarding", "rp_filter", "arp_ignore") for link in LINKS),
    "net/core/somaxconn",
]
PATTERNS = """
    net/ipv4/conf/*/rp_filter net/ipv4/conf/*/forwarding net/ipv4/conf/l*/rp_filter net/ipv4/conf/[!d]*/arp_ignore
    net/ipv4/conf/?ll/arp_ignore net/ipv4/conf/[a-d]*/rp_filter net/ipv4/conf/lo/* net/*/conf/all/rp_filter
    net/ipv4/conf/[^a]*/forwarding net/ipv4/conf/{all,lo}/rp_filter net/ipv4/*/rp_filter net/ipv4/conf/*o/arp_ignore
    net/ipv4/conf/\\l*/rp_filter net/ipv4/conf/[/rp_filter net/ipv4/conf/[z-a]*/rp_filter net/ipv4/ip_forwar?
""".split()
VALUES = """0 1 2 0 1 2 0 1 2 01 0x1 010 0X2 00 -1 +1 yes on "1" '1' 1.0 1,2 2147483647 2147483648 -2147483648
    99999999999 0000000000000000000001 000000000000000000001 0x 08 1a =1 1=2 1# 1;""".split()
REMARKS = ["", "", "", "", " # kubelet", "# x", " ; x", "\t#", " 2", " x", "\\", " \\", "\x0b", "\x0c2", "\xa0"]
SPACE = ["", "", "", " ", "  ", "\t", "\x0b", "\x0c"]
ENDS = ["\n"] * 12 + ["\r\n", "\r\n", "\n\n", "\r", "\n\r", "\0", "\0\n", "\r\r\n", "\n\r\n"]
PLACES = ["etc", "run", "usr/local/lib", "usr/lib", "lib"]
NAMES = ["10-a", "50-b", "50-b", "60-c", "90-ipvsd", "99-sysctl", "99-z", "a b", "Z", "é".encode().decode("latin-1")]
LINKED = [
    "->/dev/null", "->nowhere", "->../sysctl.conf", "->/etc/sysctl.conf", "->10-a.conf", "->../../run/sysctl.d/x", "/",
]  # fmt: skip


def key(dice: random.Random) -> str:
    """Return the name of a sysctl in a random spelling."""
    path = dice.choice(PATTERNS if dice.random() < 0.25 else KEYS)
    if dice.random() < 0.03:
        path += dice.choice(["x", "/x", "/", ".x", " x"])
    if dice.random() < 0.7:
        path = path.translate({ord("/"): ".", ord("."): "/"})
    spelled = dice.random()
    if spelled < 0.02:
        path = dice.choice(["/", ".", "//", "./", "\ufeff".encode().decode("latin-1")]) + path
    elif spelled < 0.05:
        path = path.replace("conf", dice.choice(["/conf", ".conf", "./conf", "../conf"]), 1)
    return path


def line(dice: random.Random) -> str:
    form = dice.random()
    name = key(dice)

    def blank() -> str:
        return dice.choice(SPACE)

    value = dice.choice(VALUES) + dice.choice(REMARKS)
    if form < 0.78:
        minus = dice.choice([""] * 8 + ["-", "-", "- ", "--"])
        text = f"{minus}{name}{blank()}={blank()}{value}"
    elif form < 0.88:
        text = f"-{blank()}{name}"
    elif form < 0.92:
        text = dice.choice(["#", ";", " # ", "!"]) + f"{name} = {value}"
    elif form < 0.95:
        text = f"{name}{dice.choice([' ', ':', ''])}{value}"
    else:
        text = dice.choice(["", " ", "=", "-", "=1", "-=", f"{name} =", "x", f"[{name}]"])
    return f"{blank()}{text}{blank()}{dice.choice(ENDS)}"


def text(dice: random.Random) -> str:
    return "".join(line(dice) for _ in range(dice.randrange(7)))


def case(number: int) -> Mapping[str, Any]:
    """Return the files of a case, which depend only on its number."""
    chance = dice(number)
    files: dict[str, str] = {}
    for _ in range(chance.randrange(1, 6)):
        name = chance.choice(NAMES) + chance.choice([".conf"] * 12 + ["", ".conf.bak", ".CONF", "conf"])
        hidden = "." if chance.random() < 0.05 else ""
        place = chance.choice(PLACES)
        content = chance.choice(LINKED) if chance.random() < 0.1 else text(chance)
        files[f"{place}/sysctl.d/{hidden}{name}"] = content
    if chance.random() < 0.4:
        files["etc/sysctl.conf"] = text(chance)
        if chance.random() < 0.6:
            files["etc/sysctl.d/99-sysctl.conf"] = "->../sysctl.conf"
    # /lib is /usr/lib, so the two cannot contain different files of one name.
    merged = {(f"usr/{path}" if path.startswith("lib/") else path): content for path, content in files.items()}
    return {"kind": "sysctl", "files": list(merged.items()), "keys": KEYS}


def test_each_line_is_read_as_the_program_reads_it(tmp_path: Path) -> None:
    cases = [case(number) for number in range(breadth())]
    wrong = []
    for number, (made, answer) in enumerate(zip(cases, judged(tmp_path, cases))):
        root = tmp_path / str(number)
        root.mkdir()
        fill(str(root), made["files"])
        tree, before = FileTree(str(root)), answer["before"]
        for program, found in (
            ("systemd", simulate_systemd_sysctl(systemd_lines(tree), KEYS, before)),
            ("procps", simulate_procps(procps_lines(tree), KEYS, before)),
        ):
            wrong += [f"case {number}: {told}" for told in differences(program, found, answer)]
    assert not wrong, f"{len(wrong)} differences, of which the first are\n" + "\n".join(wrong[:20])


def differences(program: str, found: ApplyResult, answer: Mapping[str, Any]) -> list[str]:
    return [
        f"{program} leaves {path} at {value!r}, which was said to be {found.values.get(path)!r}"
        for path, value in answer[program].items()
        if found.values.get(path) != value
    ]
