"""The BPF program, run on an emulator of its instructions, and its records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipvsd.bpf import sysctl_program
from ipvsd.bpf.sysctl_program import WriteRecord
from ipvsd.config.value_readers import MAX_UNITS
from tests.bpf_machine import (
    HELD,
    LONG,
    OWN,
    OWN_GROUP,
    STACK_SIZE,
    Machine,
    Write,
    calls,
    lost,
    machine,
    mark,
    sharing,
)

NAMES = st.one_of(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789_-./", min_size=1, max_size=90).map(str.encode),
    st.binary(min_size=1, max_size=90).filter(lambda name: b"\0" not in name),
)


# --- the digest -------------------------------------------------------------------------


def reference(name: bytes) -> int:
    """Return the bucket by the published description: 64-bit FNV-1a over words, of which the highest bits remain."""
    digest: int = 14695981039346656037
    padded = name[:63] + bytes(64 - len(name[:63]))
    for start in range(0, 64, 8):
        digest ^= int.from_bytes(padded[start : start + 8], "little")
        digest = digest * 1099511628211 % 2**64
    return digest >> 50


@given(NAMES)
def test_the_bucket_is_that_of_the_digest(name: bytes) -> None:
    assert sysctl_program.find_bucket(name)[0] == reference(name) < sysctl_program.LOST_BUCKET


def test_names_that_differ_at_the_end_have_buckets_of_their_own() -> None:
    names = [f"net/ipv4/conf/veth{number:08x}/rp_filter".encode() for number in range(200)]
    assert len({sysctl_program.find_bucket(name)[0] for name in names}) > 190


# --- the program ------------------------------------------------------------------------

both_forms = pytest.mark.parametrize("named", [True, False], ids=["with the process", "without it"])


def told(ran: Machine) -> list[WriteRecord]:
    return [sysctl_program.parse_record(record) for record in ran.records]


def two_in_one_bucket(guarded: bytes = b"") -> tuple[Machine, tuple[bytes, bytes]]:
    """Return an emulator with two managed names in one bucket."""
    ran, names = machine(), (HELD, sharing(HELD))
    (bucket, one), (_, two) = (sysctl_program.find_bucket(name, name == guarded) for name in names)
    mark(ran, bucket, sysctl_program.shared_mark(one, two))
    return ran, names


def test_a_write_to_a_managed_sysctl_is_reported() -> None:
    ran = machine(HELD)
    assert ran.run(Write(HELD, b"1\n", b"0", 4242, b"sysctl", 77, nanoseconds=3_500_000_000)) == 1
    assert told(ran) == [
        WriteRecord(
            4242, 77, "sysctl", "net/ipv4/ip_forward", "1\n", "0", complete=True, in_our_namespace=False, refused=False,
            at=3.5,
        )
    ]  # fmt: skip
    assert len(ran.records[0]) < STACK_SIZE
    assert sysctl_program.BUCKETS == sysctl_program.LOST_BUCKET + 1


@given(NAMES)
def test_the_program_finds_the_bucket_of_every_name(name: bytes) -> None:
    ran = machine(name)
    assert ran.run(Write(name)) == 1
    names = [sysctl_program.record_name(record) for record in ran.records]
    assert names == [sysctl_program.name_in_record(name)] == [name[:63].ljust(64, b"\0")]


@given(NAMES, NAMES)
def test_an_unmanaged_name_is_not_reported(held: bytes, name: bytes) -> None:
    assume(reference(held) != reference(name))
    ran = machine(held)
    assert (ran.run(Write(name)), ran.records) == (1, [])


@pytest.mark.parametrize(
    ("write", "called"),
    [
        pytest.param(Write(b"kernel/panic"), [14, 101, 1], id="an unmanaged name"),
        pytest.param(Write(sharing(HELD)), [14, 101, 1], id="an unmanaged name in a shared bucket"),
        pytest.param(Write(HELD, write=False), [14], id="a read"),
        pytest.param(Write(HELD, process=OWN), [14], id="a write by ipvsd"),
    ],
)
def test_what_is_not_reported_costs_few_calls(write: Write, called: list[int]) -> None:
    ran = machine(HELD)
    assert (ran.run(write), ran.records, lost(ran)) == (1, [], 0)
    assert ran.called == called


def test_two_managed_names_in_one_bucket_are_reported_separately() -> None:
    ran, names = two_in_one_bucket()
    for name in names:
        ran.run(Write(name))
    assert [sysctl_program.record_name(record) for record in ran.records] == [
        sysctl_program.name_in_record(name) for name in names
    ]


@pytest.mark.parametrize("guarded", [HELD, sharing(HELD)], ids=["the first", "the second"])
def test_one_of_two_managed_names_in_one_bucket_can_be_guarded(guarded: bytes) -> None:
    ran, names = two_in_one_bucket(guarded)
    assert [ran.run(Write(name)) for name in names] == [int(name != guarded) for name in names]


def test_a_name_that_is_no_longer_managed_is_not_reported() -> None:
    ran = machine(HELD)
    mark(ran, sysctl_program.find_bucket(HELD)[0], 0)
    ran.run(Write(HELD))
    assert ran.records == []


def test_a_full_ring_is_counted_and_nothing_else_written_to_the_table() -> None:
    ran = machine(HELD, room=2)
    before = bytes(ran.table[: 24 * sysctl_program.LOST_BUCKET])
    assert [ran.run(Write(HELD)) for _ in range(5)] == [1] * 5
    assert (len(ran.records), lost(ran)) == (2, 3)
    assert ran.table[: 24 * sysctl_program.LOST_BUCKET] == before


@both_forms
@pytest.mark.parametrize("room", [0, 9], ids=["a full ring", "room"])
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(Write(HELD), id="held"),
        pytest.param(Write(b"kernel/panic"), id="not held"),
        pytest.param(Write(HELD, write=False), id="a read"),
        pytest.param(Write(HELD, process=OWN), id="our own"),
        pytest.param(Write(LONG), id="a name that is too long"),
        pytest.param(Write(HELD, old=b"x" * 5000, new=b"y" * 5000, comm=b"z" * 99), id="values that are too long"),
        pytest.param(Write(b"", b"", b"", 0, b"", 0), id="nothing"),
    ],
)
def test_every_write_is_let_happen(named: bool, room: int, write: Write) -> None:
    assert machine(HELD, LONG, named=named, room=room).run(write) == 1


def test_the_form_for_old_kernels_asks_for_no_process() -> None:
    ran = machine(HELD, named=False)
    ran.run(Write(HELD, process=OWN))
    (record,) = told(ran)
    assert record[:6] == (0, 77, "", "net/ipv4/ip_forward", "1\n", "0")
    assert not {14, 16} & set(calls(ran.code))
    assert {14, 16, 113} < set(calls(machine(HELD).code))


def test_the_form_without_the_kernels_memory_does_not_ask_for_it() -> None:
    ran = machine(HELD, places=False)
    ran.run(Write(HELD, process=OWN, write=False))
    ran.run(Write(HELD))
    assert not told(ran)[0].in_our_namespace
    assert 113 not in set(calls(ran.code))


def test_the_form_without_cap_perfmon_asks_for_the_process_and_not_for_its_name() -> None:
    ran = machine(HELD, comm=False)
    ran.run(Write(HELD))
    assert told(ran)[0][:3] == (Write(HELD).process, 77, "")
    assert 16 not in set(calls(ran.code))


@pytest.mark.parametrize(
    ("new", "whole"),
    [
        pytest.param(b"4096 131072 6291456", True, id="short"),
        pytest.param(b"1" * 62, True, id="one less than what fits"),
        pytest.param(b"1" * 63, False, id="what fits may go on"),
        pytest.param(b"1" * 64, False, id="longer"),
    ],
)
def test_a_possibly_truncated_value_is_marked(new: bytes, whole: bool) -> None:
    ran = machine(HELD)
    ran.run(Write(HELD, new=new))
    assert told(ran)[0].complete is whole


# --- network namespaces -----------------------------------------------------------------

THERE: dict[str, Any] = {"set": 0xBBBB, "data": 0xEEEE}  # the sysctl of this name in another network namespace


def learned(named: bool = True, **options: Any) -> Machine:
    """Return an emulator on which ipvsd has read the sysctl."""
    ran = machine(HELD, named=named, **options)
    assert ran.run(Write(HELD, process=OWN, cgroup=OWN_GROUP, write=False)) == 1
    assert ran.records == []
    return ran


def ours(ran: Machine) -> list[bool]:
    return [record.in_our_namespace for record in told(ran)]


@both_forms
def test_a_write_is_reported_in_the_namespace_of_ipvsd_and_not_in_another(named: bool) -> None:
    ran = learned(named, room=1)
    for _ in range(9):
        assert ran.run(Write(HELD, **THERE)) == 1
    assert (ran.records, lost(ran)) == ([], 0)
    assert ran.run(Write(HELD)) == 1
    assert (ours(ran), lost(ran)) == ([True], 0)


@pytest.mark.parametrize(
    ("write", "known"),
    [
        pytest.param(Write(HELD, set=0xBBBB), False, id="a value that two network namespaces share"),
        pytest.param(Write(HELD, readable=False), False, id="memory that cannot be read"),
        pytest.param(Write(HELD, set=0xBBBB, data=0), False, id="a value whose address is not there"),
        pytest.param(Write(HELD, data=0xEEEE), True, id="a recreated sysctl that ipvsd has not read yet"),
    ],
)
def test_a_write_in_an_unknown_namespace_is_reported_as_such(write: Write, known: bool) -> None:
    ran = learned()
    ran.run(write)
    assert ours(ran) == [known]


@pytest.mark.parametrize(
    ("options", "read", "write"),
    [
        pytest.param({}, Write(HELD, process=OWN, write=False, data=0), Write(HELD, **THERE), id="no address"),
        pytest.param({}, Write(HELD, **THERE), Write(HELD), id="only written by others"),
        pytest.param({"named": False, "comm": False, "group": 0}, Write(HELD, process=OWN, cgroup=0, write=False),
                     Write(HELD), id="ipvsd itself is unknown"),
    ],
)  # fmt: skip
def test_the_namespace_is_unknown_if_ipvsd_has_not_learned_it(options: Any, read: Write, write: Write) -> None:
    ran = machine(HELD, **options)
    ran.run(read)
    ran.run(write)
    assert ours(ran) == [False] * (1 + read.write)


def test_reads_of_other_programs_are_ignored() -> None:
    ran = learned()
    ran.run(Write(HELD, write=False, **THERE))
    ran.run(Write(HELD))
    assert ours(ran) == [True]


def test_for_two_names_in_one_bucket_the_namespace_is_unknown() -> None:
    ran, names = two_in_one_bucket()
    for name in names:
        ran.run(Write(name, process=OWN, write=False))
        ran.run(Write(name, **THERE))
    assert ours(ran) == [False, False]


def test_reads_of_unmanaged_sysctls_are_ignored() -> None:
    ran = machine(HELD)
    before = bytes(ran.table)
    ran.run(Write(b"kernel/panic", process=OWN, write=False))
    ran.run(Write(sharing(HELD), process=OWN, write=False))
    assert ran.table == before


# --- guarding ---------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("room", [0, 9], ids=["a full ring", "room"])
def test_a_write_to_a_guarded_sysctl_is_refused_and_reported(named: bool, room: int) -> None:
    ran = machine(HELD, named=named, guarded=True, room=room)
    assert ran.run(Write(HELD, new=b"0")) == 0
    assert [(record.refused, record.new) for record in told(ran)] == [(True, "0")] * bool(room)
    assert lost(ran) == (not room)


def test_in_another_network_namespace_nothing_is_guarded() -> None:
    ran = learned(guarded=True)
    assert (ran.run(Write(HELD, **THERE)), ran.run(Write(HELD))) == (1, 0)
    assert [record.refused for record in told(ran)] == [True]


@pytest.mark.parametrize(
    ("write", "options", "let"),
    [
        pytest.param(Write(HELD, process=OWN), {}, 1, id="by ipvsd"),
        pytest.param(Write(HELD, write=False), {}, 1, id="a read"),
        pytest.param(Write(sharing(HELD)), {}, 1, id="a name that shares the bucket"),
        pytest.param(Write(HELD, ancestors=()), {"allowed": (5,)}, 0, id="a group that is not there"),
        pytest.param(Write(HELD), {"named": False, "allowed": (5, 77)}, 1, id="unknown process, its cgroup"),
        pytest.param(Write(HELD), {"named": False, "allowed": (5, 11)}, 0, id="unknown process, an ancestor"),
    ],
)
def test_what_is_let_happen_to_a_guarded_sysctl(write: Write, options: Any, let: int) -> None:
    ran = machine(HELD, guarded=True, **options)
    assert ran.run(write) == let
    if not options.get("named", True):
        assert 123 not in ran.called  # bpf_get_current_ancestor_cgroup_id(), which 5.10 does not permit


@pytest.mark.parametrize("group", [11, 22, 77], ids=["slice", "unit", "the group itself"])
@pytest.mark.parametrize("slot", [0, 1, 15])
def test_a_group_that_is_allowed_or_below_one_writes(group: int, slot: int) -> None:
    ran = machine(HELD, guarded=True, allowed=(*range(1000, 1000 + slot), group))
    assert ran.run(Write(HELD, ancestors=(11, 22, 77))) == 1
    assert [record.refused for record in told(ran)] == [False]


def test_there_is_room_for_every_unit_that_can_be_configured_and_ourselves() -> None:
    assert MAX_UNITS + 1 == sysctl_program.MAX_ALLOWED


def test_without_the_second_map_nothing_is_guarded() -> None:
    ran = machine(HELD, guarded=True, guard=None)
    assert ran.run(Write(HELD)) == 1
    assert [record.refused for record in told(ran)] == [False]
