"""The sysctl that a write changes: in this network namespace, or with the same name in another one."""

from __future__ import annotations

from typing import Any

import pytest

from ipvsd.bpf import sysctl_program
from ipvsd.bpf.asm import assemble
from tests.bpf_machine import ALLOWED_FD, RING_FD, TABLE_FD, Machine, Write
from tests.hooked import HELD, OWN, OWN_GROUP, lost, machine, mark, sharing

OTHER_SET, OTHER_DATA = 0xBBBB, 0xEEEE


def learned(named: bool = True, **options: Any) -> Machine:
    """Return an emulator on which ipvsd has read the sysctl."""
    ran = machine(HELD, named=named, **options)
    assert ran.run(Write(HELD, process=OWN, cgroup=OWN_GROUP, write=False)) == 1
    assert ran.records == []
    return ran


def ours(ran: Machine) -> list[bool]:
    return [sysctl_program.parse_record(record).in_our_namespace for record in ran.records]


@pytest.mark.parametrize("named", [True, False], ids=["with the process", "without it"])
def test_a_write_to_the_sysctl_that_ipvsd_has_read_is_in_its_namespace(named: bool) -> None:
    ran = learned(named)
    assert ran.run(Write(HELD)) == 1
    assert ours(ran) == [True]


@pytest.mark.parametrize("named", [True, False], ids=["with the process", "without it"])
def test_a_write_in_another_network_namespace_is_not_reported(named: bool) -> None:
    ran = learned(named, room=1)
    for _ in range(9):
        assert ran.run(Write(HELD, set=OTHER_SET, data=OTHER_DATA)) == 1
    assert (ran.records, lost(ran)) == ([], 0)
    ran.run(Write(HELD))
    assert (ours(ran), lost(ran)) == ([True], 0)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(Write(HELD, set=OTHER_SET), id="a value that two network namespaces share"),
        pytest.param(Write(HELD, readable=False), id="memory that cannot be read"),
        pytest.param(Write(HELD, set=OTHER_SET, data=0), id="a value whose address is not there"),
    ],
)
def test_a_write_in_an_unknown_namespace_is_reported_as_such(write: Write) -> None:
    ran = learned()
    ran.run(write)
    assert ours(ran) == [False]


def test_a_value_without_an_address_can_be_any() -> None:
    ran = machine(HELD)
    ran.run(Write(HELD, process=OWN, write=False, data=0))
    ran.run(Write(HELD, set=OTHER_SET, data=OTHER_DATA))
    assert ours(ran) == [False]


def test_before_ipvsd_has_read_the_sysctl_the_namespace_is_unknown() -> None:
    ran = machine(HELD)
    for place in (0xAAAA, OTHER_SET):
        ran.run(Write(HELD, set=place, data=place))
    assert ours(ran) == [False, False]


def test_reads_of_other_programs_are_ignored() -> None:
    ran = learned()
    ran.run(Write(HELD, write=False, set=OTHER_SET, data=OTHER_DATA))
    ran.run(Write(HELD))
    assert ours(ran) == [True]


def test_a_recreated_sysctl_is_recognised_before_ipvsd_has_read_it() -> None:
    ran = learned()
    ran.run(Write(HELD, data=OTHER_DATA))
    assert ours(ran) == [True]


def test_for_two_names_in_one_bucket_the_namespace_is_unknown() -> None:
    ran, other = machine(), sharing(HELD)
    (bucket, one), (_, two) = sysctl_program.find_bucket(HELD), sysctl_program.find_bucket(other)
    mark(ran, bucket, sysctl_program.shared_mark(one, two))
    for name in (HELD, other):
        ran.run(Write(name, process=OWN, write=False))
        ran.run(Write(name, set=OTHER_SET, data=OTHER_DATA))
    assert ours(ran) == [False, False]


def test_reads_of_unmanaged_sysctls_are_ignored() -> None:
    ran = machine(HELD)
    before = bytes(ran.table)
    ran.run(Write(b"kernel/panic", process=OWN, write=False))
    ran.run(Write(sharing(HELD), process=OWN, write=False))
    assert ran.table == before


def test_without_a_known_process_and_cgroup_nothing_is_learned() -> None:
    form = sysctl_program.Variant(None, comm=False)
    ran = Machine(
        assemble(sysctl_program.program(TABLE_FD, ALLOWED_FD, RING_FD, form)), bytearray(24 * sysctl_program.BUCKETS)
    )
    mark(ran, *sysctl_program.find_bucket(HELD))
    ran.run(Write(HELD, process=OWN, cgroup=0, write=False))
    ran.run(Write(HELD))
    assert ours(ran) == [False]


def test_in_another_network_namespace_nothing_is_guarded() -> None:
    ran = learned(guarded=True)
    assert ran.run(Write(HELD, set=OTHER_SET, data=OTHER_DATA)) == 1
    assert ran.run(Write(HELD)) == 0
    assert [sysctl_program.parse_record(record).refused for record in ran.records] == [True]
