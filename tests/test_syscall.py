"""Properties of bpf(2) that need no call. The namespace tests call it."""

from __future__ import annotations

import pytest

from ipvsd.bpf import syscall


@pytest.mark.parametrize(
    ("machine", "number"),
    [
        pytest.param("x86_64", 321, id="arch/x86/entry/syscalls/syscall_64.tbl"),
        pytest.param("aarch64", 280, id="include/uapi/asm-generic/unistd.h"),
    ],
)
def test_the_system_call_has_the_number_of_its_machine(machine: str, number: int) -> None:
    # Both machines are little-endian, so the program itself is the same.
    assert syscall.syscall_number(machine) == number


@pytest.mark.parametrize("machine", ["s390x", "ppc64le", "armv7l", ""])
def test_another_machine_is_an_error_that_names_it(machine: str) -> None:
    with pytest.raises(OSError, match=f"unknown system call number for {machine}"):
        syscall.syscall_number(machine)
