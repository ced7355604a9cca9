"""The BPF program, run on an emulator of its instructions, and its records."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipvsd.bpf import sysctl_program
from ipvsd.bpf.asm import assemble
from ipvsd.config import schema
from tests.bpf_machine import RING_FD, STACK_SIZE, TABLE_FD, Machine, Write, calls
from tests.hooked import HELD, LONG, OWN, lost, machine, mark, sharing

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


def test_a_write_to_a_managed_sysctl_is_reported() -> None:
    ran = machine(HELD)
    assert ran.run(Write(HELD, b"1\n", b"0", 4242, b"sysctl", 77, nanoseconds=3_500_000_000)) == 1
    (record,) = ran.records
    assert sysctl_program.parse_record(record) == sysctl_program.WriteRecord(
        4242,
        77,
        "sysctl",
        "net/ipv4/ip_forward",
        "1\n",
        "0",
        complete=True,
        in_our_namespace=False,
        refused=False,
        at=3.5,
    )
    assert sysctl_program.record_name(record) == sysctl_program.name_in_record(HELD)


@given(NAMES)
def test_the_program_finds_the_bucket_of_every_name(name: bytes) -> None:
    ran = machine(name)
    assert ran.run(Write(name)) == 1
    assert (
        [sysctl_program.record_name(record) for record in ran.records]
        == [sysctl_program.name_in_record(name)]
        == [name[:63].ljust(64, b"\0")]
    )


@given(NAMES, NAMES)
def test_an_unmanaged_name_is_not_reported(held: bytes, name: bytes) -> None:
    assume(reference(held) != reference(name))
    ran = machine(held)
    assert ran.run(Write(name)) == 1
    assert ran.records == []


def test_an_unmanaged_name_in_a_shared_bucket_is_not_reported() -> None:
    ran = machine(HELD)
    assert ran.run(Write(sharing(HELD))) == 1
    assert ran.records == []


def test_two_managed_names_in_one_bucket_are_reported_separately() -> None:
    ran, other = machine(), sharing(HELD)
    (bucket, one), (_, two) = sysctl_program.find_bucket(HELD), sysctl_program.find_bucket(other)
    mark(ran, bucket, sysctl_program.shared_mark(one, two))
    for name in (HELD, other):
        ran.run(Write(name))
    assert [sysctl_program.record_name(record) for record in ran.records] == [
        sysctl_program.name_in_record(HELD),
        sysctl_program.name_in_record(other),
    ]


@pytest.mark.parametrize("guarded", [HELD, sharing(HELD)], ids=["the first", "the second"])
def test_one_of_two_managed_names_in_one_bucket_can_be_guarded(guarded: bytes) -> None:
    ran, names = machine(), (HELD, sharing(HELD))
    (bucket, one), (_, two) = (sysctl_program.find_bucket(name, name == guarded) for name in names)
    mark(ran, bucket, sysctl_program.shared_mark(one, two))
    assert [ran.run(Write(name)) for name in names] == [int(name != guarded) for name in names]


def test_an_unmanaged_name_costs_three_calls() -> None:
    ran = machine(HELD)
    ran.run(Write(b"kernel/panic"))
    assert ran.called == [14, 101, 1]


def test_a_name_that_is_no_longer_managed_is_not_reported() -> None:
    ran = machine(HELD)
    mark(ran, sysctl_program.find_bucket(HELD)[0], 0)
    ran.run(Write(HELD))
    assert ran.records == []


def test_a_read_is_not_reported() -> None:
    ran = machine(HELD)
    assert ran.run(Write(HELD, write=False)) == 1
    assert (ran.records, ran.called) == ([], [14])


def test_writes_by_ipvsd_are_not_reported_to_it() -> None:
    ran = machine(HELD)
    assert ran.run(Write(HELD, process=OWN)) == 1
    assert (ran.records, lost(ran)) == ([], 0)


def test_a_full_ring_is_counted() -> None:
    ran = machine(HELD, room=2)
    assert [ran.run(Write(HELD)) for _ in range(5)] == [1] * 5
    assert (len(ran.records), lost(ran)) == (2, 3)


def test_nothing_but_the_count_of_the_lost_is_written_to_the_table() -> None:
    ran = machine(HELD, room=0)
    before = bytes(ran.table[: 24 * sysctl_program.LOST_BUCKET])
    ran.run(Write(HELD))
    assert ran.table[: 24 * sysctl_program.LOST_BUCKET] == before


@pytest.mark.parametrize("named", [True, False], ids=["with the process", "without it"])
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
    told = sysctl_program.parse_record(ran.records[0])
    assert (told.pid, told.comm) == (0, "")
    assert (told.name, told.old, told.new, told.cgroup) == ("net/ipv4/ip_forward", "1\n", "0", 77)
    assert not {14, 16} & set(calls(ran.code))
    assert {14, 16} < set(calls(machine(HELD).code))


def test_the_form_without_the_kernels_memory_does_not_ask_for_it() -> None:
    ran = machine(HELD, places=False)
    ran.run(Write(HELD, process=OWN, write=False))
    ran.run(Write(HELD))
    assert not sysctl_program.parse_record(ran.records[0]).in_our_namespace
    assert 113 not in set(calls(ran.code))
    assert 113 in set(calls(machine(HELD).code))


def test_the_form_without_cap_perfmon_asks_for_the_process_and_not_for_its_name() -> None:
    ran = machine(HELD, comm=False)
    ran.run(Write(HELD))
    told = sysctl_program.parse_record(ran.records[0])
    assert (told.pid, told.comm) == (Write(HELD).process, "")
    assert 16 not in set(calls(ran.code))


def test_the_stack_is_enough() -> None:
    # BUCKETS is the size of the table. The emulator rejects accesses outside its stack.
    assert sysctl_program.BUCKETS == sysctl_program.LOST_BUCKET + 1
    ran = machine(HELD)
    ran.run(Write(HELD))
    assert len(ran.records[0]) < STACK_SIZE


# --- the records ------------------------------------------------------------------------


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
    assert sysctl_program.parse_record(ran.records[0]).complete is whole


# --- guarding ---------------------------------------------------------------------------


def refusals(ran: Machine) -> list[bool]:
    return [sysctl_program.parse_record(record).refused for record in ran.records]


@pytest.mark.parametrize("named", [True, False], ids=["with the process", "without it"])
def test_a_write_to_a_guarded_sysctl_is_refused_and_reported(named: bool) -> None:
    ran = machine(HELD, named=named, guarded=True)
    assert ran.run(Write(HELD, new=b"0")) == 0
    assert refusals(ran) == [True]
    assert sysctl_program.parse_record(ran.records[0]).new == "0"


def test_it_is_refused_even_without_room_for_a_report() -> None:
    ran = machine(HELD, guarded=True, room=0)
    assert ran.run(Write(HELD)) == 0
    assert lost(ran) == 1


def test_writes_by_ipvsd_are_not_refused() -> None:
    assert machine(HELD, guarded=True).run(Write(HELD, process=OWN)) == 1


def test_a_read_is_not_refused() -> None:
    assert machine(HELD, guarded=True).run(Write(HELD, write=False)) == 1


@pytest.mark.parametrize("group", [11, 22, 77], ids=["slice", "unit", "the group itself"])
@pytest.mark.parametrize("slot", [0, 1, 15])
def test_a_group_that_is_allowed_or_below_one_writes(group: int, slot: int) -> None:
    ran = machine(HELD, guarded=True, allowed=(*range(1000, 1000 + slot), group))
    assert ran.run(Write(HELD, ancestors=(11, 22, 77))) == 1
    assert refusals(ran) == [False]


def test_with_an_unknown_process_only_the_cgroup_itself_is_allowed() -> None:
    for group, let in ((77, 1), (11, 0)):
        ran = machine(HELD, named=False, guarded=True, allowed=(5, group))
        assert ran.run(Write(HELD)) == let
        assert 123 not in ran.called  # bpf_get_current_ancestor_cgroup_id(), which 5.10 does not permit


def test_a_group_that_is_not_there_is_not_allowed_for_that() -> None:
    assert machine(HELD, guarded=True, allowed=(5,)).run(Write(HELD, ancestors=())) == 0


def test_a_name_that_shares_the_bucket_of_a_guarded_one_is_not_refused() -> None:
    assert machine(HELD, guarded=True).run(Write(sharing(HELD))) == 1


def test_there_is_room_for_every_unit_that_can_be_configured_and_ourselves() -> None:
    assert schema.MAX_UNITS + 1 == sysctl_program.MAX_ALLOWED


def test_without_the_second_map_nothing_is_guarded() -> None:
    guarding = machine(HELD, guarded=True)
    ran = Machine(
        assemble(sysctl_program.program(TABLE_FD, None, RING_FD, sysctl_program.Variant(OWN))), guarding.table
    )
    assert ran.run(Write(HELD)) == 1
    assert refusals(ran) == [False]
