"""No text in a file or a name reaches a terminal unescaped, or makes the JSON of a command invalid."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipvsd.cli import main
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reporting.status_document import build_document
from ipvsd.state import status_file
from tests.samples import module, report, sysctl
from tests.test_printable import strictly
from tests.trees import make_modules, make_tree, put

pytestmark = pytest.mark.system

# Texts that do harm on a terminal, in a log, or in JSON, including bytes that are not UTF-8.
HARM = [
    b"\x1b[2J", b"\x1b]0;t\a", b"\r", b"\b", b"\x7f", "\x9b2J".encode(), "\u202e".encode(), "\u2066".encode(),
    "\u2028".encode(), "\u200b".encode(), b"\xff", b"\xed\xa0\x80", b"\xc3", "\U000e0041".encode(), b"\x85",
    b"\nFORGED",
]  # fmt: skip
PLAIN = [b"a", b"1", b"=", b" ", b"#", b"'", b'"', b"\\", b"*", b"[", b"{", "\u00e9".encode()]
NAMES = st.lists(st.sampled_from([*HARM, *PLAIN]), min_size=1, max_size=4).map(b"".join)
TEXTS = st.lists(st.sampled_from([*HARM, *PLAIN, b"\n", b"\t", b"\0", b"x" * 3000]), min_size=1, max_size=4).map(
    b"".join
)

# Every kind of file that ipvsd reads, by its path, with the text before and after a hostile text.
CONFIGURATION: Mapping[str, bytes] = {
    "etc/ipvsd/ipvsd.yaml": b"profiles: [kube-proxy-ipvs]\nscheduler: rr # %s\n",
    "etc/ipvsd/conf.d/%s.yaml": b"sysctls: {net.ipv4.ip_forward: 1} # %s\n",
}
BAD: Mapping[str, bytes] = {
    "etc/ipvsd/conf.d/1%s.yaml": b"%s: 1\n",
    "etc/ipvsd/conf.d/2%s.yaml": b"scheduler: !%s x\n",
    "etc/ipvsd/conf.d/3%s.yaml": b'sysctls: {"net.%s": "%s", net.a: "\\e[2J\\uDCFF"}\nmodules: {"%s": {}}\n',
    "etc/ipvsd/conf.d/4%s.yaml": b"kind: KubeProxyConfiguration\nipvs: {scheduler: '%s'}\n",
}
OTHERS: Mapping[str, bytes] = {
    "etc/os-release": b"ID=debian%s\nNAME=%s\n",
    "etc/sysctl.d/%s.conf": b"net.ipv4.ip_forward = %s\nnet.ipv4.conf.%s.forwarding = 0\nkernel.modules_disabled = 1\n",
    "etc/sysctl.conf": b"net.ipv4.ip_forward = 0 %s\n",
    "etc/modprobe.d/%s.conf": b"install ip_vs /bin/true %s\nblacklist ip_vs_rr %s\noptions ip_vs %s=1\nalias x %s\n",
    "etc/modules-load.d/%s.conf": b"ip_vs\n%s\n",
    "etc/tuned/active_profile": b"%s\n",
    "etc/tuned/a/tuned.conf": b"[sysctl]\nnet.ipv4.ip_forward = %s\n",
    "etc/systemd/network/%s.network": b"[Match]\nName=%s kube-ipvs0\n[Network]\nIPv4Forwarding=%s\nIPForward=yes %s\n",
    "etc/NetworkManager/conf.d/%s.conf": b"[keyfile]\nunmanaged-devices=%s\n",
    "etc/firewalld/firewalld.conf": b"CleanupModulesOnExit=yes %s\n",
    "etc/ufw/ufw.conf": b"ENABLED=yes\n",
    "etc/ufw/sysctl.conf": b"net/ipv4/ip_forward=%s\n",
    "etc/default/grub": b'GRUB_CMDLINE_LINUX="modprobe.blacklist=ip_vs,%s ip_vs.x=%s"\n',
    "etc/kernel/cmdline": b"module_blacklist=ip_vs,%s\n",
    "boot/loader/entries/%s.conf": b"version %s\noptions sysctl.net.ipv4.ip_forward=0%s\n",
    "boot/grub/grubenv": b"saved_entry=%s\n",
}
RUNNING: Mapping[str, bytes] = {
    "proc/cmdline": b"module_blacklist=ip_vs_rr,%s sysctl.net.ipv4.ip_forward=%s\n",
    "proc/modules": b"ip_vs 1 0 - Live%s 0x0\n%s 1 0 - Live 0x0\n",
    "proc/sys/net/ipv4/ip_forward": b"0%s\n",
    "proc/sys/net/ipv4/conf/%s/forwarding": b"0%s\n",
    "proc/sys/kernel/osrelease": b"6.1.0%s\n",
    "sys/module/ip_vs/parameters/conn_tab_bits": b"%s\n",
}
UNITS = ("tuned", "firewalld", "NetworkManager", "systemd-networkd", "ufw")

COMMANDS = """
check
plan --exit-code
preflight
preflight --brief
explain net.ipv4.ip_forward
explain ip_vs
explain ip_vs_rr
explain kube-ipvs0
status
history
config show
config validate
apply --persist
""".strip().splitlines()


def fill(tree: bytes, files: Mapping[str, bytes], texts: Iterator[bytes], names: Iterator[bytes]) -> None:
    for path, content in files.items():
        name = path.encode() % tuple(next(names)[:60] for _ in range(path.count("%s")))
        file = os.path.join(tree, name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as opened:
            opened.write(content % tuple(next(texts) for _ in range(content.count(b"%s"))))


def damaged(value: Any, texts: Iterator[bytes]) -> Any:
    """Return a document with a hostile text appended to each text that is not a state."""
    if isinstance(value, dict):
        return {key: item if key == "state" else damaged(item, texts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [damaged(item, texts) for item in value]
    return value + next(texts).decode("utf-8", "surrogateescape") if isinstance(value, str) else value


def printed(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(arguments)
    return out.getvalue(), err.getvalue()


# Each hostile text alone, and all of them together.
ALL = [b"".join(HARM)]


@settings(max_examples=1)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=6),
    names=st.lists(NAMES, min_size=1, max_size=6),
    running=st.booleans(),
    bad=st.booleans(),
)
@example(texts=ALL, names=[b"\nFORGED"], running=True, bad=False)
@example(texts=HARM, names=HARM, running=True, bad=False)
@example(texts=HARM, names=HARM, running=False, bad=False)
@example(texts=HARM, names=HARM, running=True, bad=True)
def test_output_is_printable_and_json_is_valid(
    texts: list[bytes], names: list[bytes], running: bool, bad: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        tree, text, name = Path(directory), itertools.cycle(texts), itertools.cycle(names)
        make_tree(tree)
        release = os.fsdecode(b"6.1.0" + names[0][:60])
        make_modules(tree, release, ["ip_vs", "ip_vs_rr"])
        for unit in UNITS:
            put(tree, f"etc/systemd/system/a.wants/{unit}.service", "")
        files = {**CONFIGURATION, **OTHERS, **(BAD if bad else {}), **(RUNNING if running else {})}
        fill(os.fsencode(tree), files, text, name)
        if not running:
            (tree / "proc/sys/kernel/osrelease").unlink()
        made = build_document(report(module(), sysctl(SysctlVerdict.NONCOMPLIANT)))
        document = {**damaged(made, text), "boottime": time.clock_gettime(time.CLOCK_BOOTTIME)}
        (tree / status_file.PATH).write_text(json.dumps(document))
        (tree / "run/ipvsd/history.jsonl").write_text(json.dumps(damaged(made["repairs"][0], text)) + "\n")
        asked = os.fsdecode(names[0].replace(b"\0", b""))
        lines = [line.split() for line in COMMANDS]
        rooted = [[*line, "--root", directory] for line in [*lines, ["explain", asked]]]
        for arguments in [*rooted, ["profile", "show", asked], [asked], ["check", asked]]:
            for line in "".join(printed(*arguments)).split("\n"):
                assert line.isprintable(), arguments
                assert not line.startswith("FORGED"), arguments
            out, err = printed(*arguments, "--output", "json")
            assert out.isascii()
            assert not out or strictly(out) is not None
            assert all(map(str.isprintable, err.split("\n"))), arguments
