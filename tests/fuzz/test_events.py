"""Messages of the kernel: BPF records, uevents, IPVS over generic netlink, and facts about processes."""

from __future__ import annotations

import json
import re
import struct
import tempfile
from pathlib import Path

from hypothesis import example
from hypothesis import strategies as st

from ipvsd.bpf import sysctl_program
from ipvsd.kernel import cgroups, ipvs_probe
from ipvsd.kernel.processes import ProcessResolver
from ipvsd.model.report import Ipvs
from ipvsd.watch.uevents import link_event, module_event
from tests.fuzz.inputs import hostile, text, words
from tests.fuzz.properties import fuzz

# --- BPF --------------------------------------------------------------------------------

# The end of a record differs between versions of the program.
RECORDS = hostile(
    st.builds(
        lambda process, group, comm, name, rest: struct.pack("<QQ16s64s", process, group, comm, name) + rest,
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=16),
        st.sampled_from([b"net/ipv4/ip_forward", b"net/ipv4/conf/\xff/rp_filter", b"n" * 64]),
        st.binary(min_size=140, max_size=170),
    )
)


@fuzz(RECORDS, quick=60)
def test_a_record_is_reported_or_too_short(data: bytes) -> None:
    assert sysctl_program.record_key(data) == sysctl_program.record_key(bytes(data))
    try:
        told = sysctl_program.parse_record(data)
    except struct.error:
        assert len(data) < 256
        return
    assert 0 <= told.pid < 1 << 32
    assert 0 <= told.cgroup < 1 << 64
    assert not any("\0" in part for part in (told.comm, told.name, told.old, told.new))
    assert sysctl_program.record_name(data) == data[32:96]
    name, end, _ = sysctl_program.record_name(data).partition(b"\0")
    assert name.decode("utf-8", "surrogateescape").startswith(told.name)
    assert not end or told.name.encode("utf-8", "surrogateescape") == name  # the kernel terminates every name


# --- uevents ----------------------------------------------------------------------------

UEVENTS = hostile(
    words(
        "add@/module/ip_vs", "remove@/module/ip_vs", "change@/module/x", "add@/devices/virtual/net/eth0",
        "move@/net/a/b",
        "SUBSYSTEM=module", "SUBSYSTEM=net", "ACTION=add", "libudev", "@", "INTERFACE=eth0", apart="\0", most=6,
    )
)  # fmt: skip


@fuzz(UEVENTS)
@example(b"add@/module/ip_vs\0SUBSYSTEM=module\0SUBSYSTEM=net")
def test_a_uevent_is_reported_literally(data: bytes) -> None:
    head = text(data.split(b"\0")[0])
    module, link = module_event(data), link_event(data)
    if module:
        assert b"SUBSYSTEM=module" in data.split(b"\0")
        assert head == f"{module[0]}@/module/{module[1]}"
        assert module[0] in ("add", "remove")
    if link:
        assert b"SUBSYSTEM=net" in data.split(b"\0")
        assert head.startswith(f"{link[0]}@")
        assert head.endswith(link[1])
        assert "/" not in link[1]


# --- generic netlink --------------------------------------------------------------------

ATTRIBUTE = st.builds(
    lambda length, kind, value: struct.pack("<HH", length, kind) + value,
    st.sampled_from([8, 4, 5, 0, 65535]),
    st.integers(0, 3),
    st.binary(min_size=4, max_size=4),
)
ANSWERS = hostile(
    st.lists(ATTRIBUTE, max_size=4)
    .map(b"".join)
    .map(lambda body: struct.pack("<IHHIIBBH", 20 + len(body), 29, 0, 1, 2, 15, 1, 0) + body)
)
JSON = hostile(
    st.dictionaries(
        st.sampled_from(["up", "version", "table_size", "detail"]),
        st.sampled_from([True, False, None, 4096, "1.2.1", "responded", 1e999, -1, [], {}]),
    ).map(json.dumps)
)


@fuzz(ANSWERS)
def test_an_answer_of_ipvs_is_whole_or_cannot_be_read(data: bytes) -> None:
    from pyroute2.netlink.exceptions import NetlinkDecodeError

    message = ipvs_probe._info_message()(data)
    try:
        message.decode()
    except (struct.error, NetlinkDecodeError):
        return
    for answer in (ipvs_probe._parse_reply((message,)), ipvs_probe._parse_reply(())):
        if answer.up:
            assert re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", answer.version)
            assert 0 <= answer.table_size < 1 << 32
        else:
            assert answer == Ipvs(None, detail="invalid response from the kernel")


@fuzz(JSON)
@example(b'{"up": "no", "version": null, "table_size": Infinity, "detail": []}')
@example(b'{"up": true, "version": "1.2.1", "table_size": true, "detail": "responded"}')
@example(b"[" * 100_000)
def test_the_output_of_the_child_is_a_valid_reply_or_none(data: bytes) -> None:
    answer = ipvs_probe._parse(data)
    assert answer.up in (True, False, None)
    assert [type(part) for part in answer[1:]] == [str, int, str]


# --- processes --------------------------------------------------------------------------

UID = "0f3c2d1e-aaaa-bbbb-cccc-0123456789ab"
POD = f"kubepods-pod{UID.replace('-', '_')}.slice"
GROUP = words(
    *"system.slice kubelet.service _a.service kubepods.slice user.slice .. init.scope \x1b.service".split(),
    *(POD, f"pod{UID}", f"cri-containerd-{'a' * 64}.scope", "b" * 64),
    apart="/",
    most=7,
)
CGROUPS = hostile(st.builds("{}{}\n".format, st.sampled_from(["0::", "1:name=systemd:", "5:cpu:", ""]), GROUP))


@fuzz(CGROUPS)
def test_a_path_of_a_control_group_is_of_its_text(data: bytes) -> None:
    said = text(data)
    assert cgroups.parse_path(said) in said
    assert cgroups.parse_path(said) != "/"


@fuzz(CGROUPS, hostile(words("a", "--token=x", apart="\0")), hostile(words("kubelet", "a b", "\x1b[31m", most=1)))
@example(b"0::/system.slice/a\x1b[31m.service\n", b"", b"")
def test_a_process_is_named_in_printable_words(group: bytes, cmdline: bytes, comm: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        process = Path(root, "proc/42")
        process.mkdir(parents=True)
        for name, data in (("cgroup", group), ("cmdline", cmdline), ("comm", comm)):
            (process / name).write_bytes(data)
        writer = ProcessResolver(root).resolve(42, "", 0)
    for part in writer[1:]:
        assert str(part).isprintable()
    assert len(writer.container) in (0, 64)
    assert len(writer.pod) in (0, 32, 36)
    assert "/" not in writer.unit
    assert writer.pod == "" or writer.pod in text(group).replace("_", "-")
    assert writer.unit in text(group)
