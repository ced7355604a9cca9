"""Compare values of sysctls by their meaning to the kernel, not by their spelling."""

from __future__ import annotations

import re
from typing import Optional

from ipvsd.model.types import Exactly, OneOf, Want, Within

# proc_dointvec() and similar functions read numbers like strtoul() with base 0 (proc_get_long() in kernel/sysctl.c).
# They refuse a text of TMPBUFLEN - 1 characters or more, and a number that an unsigned long cannot store.
_NUMBER = re.compile(r"(-?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
_MAX_LENGTH, _BITS = 20, 64
# Lists whose adjacent ranges the kernel joins: proc_do_large_bitmap() (ports), cpulist_parse() (CPUs).
_RANGES = r"[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*\Z"
# Hexadecimal bit masks in groups of 32 bits (cpumask_parse()). Only the names tell them from lists of numbers.
_MASKS = ("net.core.flow_limit_cpu_bitmap", "net.core.rps_default_mask")
# Between 1 and 2, the kernel switches when memory runs short (Documentation/networking/ipvs-sysctl.rst).
_AUTOMATIC = ("net.ipv4.vs.drop_entry", "net.ipv4.vs.drop_packet", "net.ipv4.vs.secure_tcp")


def equivalent(name: str, one: str, other: str) -> bool:
    """Return whether two values, with normalised white space, mean the same to the sysctl `name`."""
    if one == other or (name in _AUTOMATIC and {one, other} <= {"1", "2"}):
        return True
    if name in _MASKS:
        masks = [_mask(value) for value in (one, other)]
        return masks[0] is not None and masks[0] == masks[1]
    words = one.split(), other.split()
    return len(words[0]) == len(words[1]) and all(map(_same_word, *words))


def satisfies(name: str, value: str, want: Want) -> bool:
    """Return whether a value, as the kernel prints it, is compliant."""
    if isinstance(want, Exactly):
        return equivalent(name, value, want.value)
    if isinstance(want, OneOf):
        return any(equivalent(name, value, choice) for choice in want.values)
    number = integer(value)
    return number is not None and number == _clamp(number, want)


def value_to_write(want: Want, found: str) -> str:
    """Return the value to write if the actual value `found` is not compliant."""
    if isinstance(want, Exactly):
        return want.value
    if isinstance(want, OneOf):
        return want.values[0]
    number = integer(found)
    bound = want.floor if want.floor is not None else want.ceiling
    return str(bound if number is None else _clamp(number, want))


def can_be_met(want: Want, found: str) -> bool:
    """Return whether a write can make the sysctl compliant. Bounds require a single number."""
    return not isinstance(want, Within) or integer(found) is not None


def find_invalid_number(name: str, want: Optional[Want]) -> Optional[str]:
    """Return a desired value that the kernel refuses as a number, or None. Sysctls of unknown type accept all."""
    texts = (want.value,) if isinstance(want, Exactly) else want.values if isinstance(want, OneOf) else ()
    if not texts:
        return None
    from ipvsd.sysctl import semantics, sysctl_names  # only configured values need both

    path = "/".join(sysctl_names.globs(name) or ())
    return next((text for text in texts if semantics.accepted_value(path, text) is None), None)


def integer(text: str) -> Optional[int]:
    """Return the number that the kernel reads from a text, like strtoul() with base 0, or None."""
    match = _NUMBER.match(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        return None
    digits = match[2]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    number = int(digits, base)
    if number >> _BITS:
        return None
    return -number if match[1] else number


def _clamp(number: int, want: Within) -> int:
    if want.floor is not None and number < want.floor:
        return want.floor
    if want.ceiling is not None and number > want.ceiling:
        return want.ceiling
    return number


# The texts that kstrtobool() accepts (lib/kstrtox.c). Parameters of modules print Y and N.
_BOOLEANS = {**dict.fromkeys(("y", "1", "on"), "Y"), **dict.fromkeys(("n", "0", "off"), "N")}


def _same_word(one: str, other: str) -> bool:
    if one == other:
        return True
    if one in ("Y", "N") or other in ("Y", "N"):
        return _BOOLEANS.get(one.lower()) is not None and _BOOLEANS.get(one.lower()) == _BOOLEANS.get(other.lower())
    numbers = integer(one), integer(other)
    if numbers[0] is not None and numbers[1] is not None:
        low, high = sorted((numbers[0], numbers[1]))
        # The kernel can print a -1 that was written as an unsigned number of 32 or 64 bits.
        return low == high or (low < 0 and high in (low + (1 << 32), low + (1 << 64)))
    lists = any(mark in one + other for mark in ",-") and re.match(_RANGES, one) and re.match(_RANGES, other)
    return bool(lists) and _intervals(one) == _intervals(other)


def _intervals(text: str) -> list[tuple[int, int]]:
    """Return the numbers of a list as sorted, disjoint intervals that do not touch."""
    bounds = [part.partition("-") for part in text.split(",")]
    spans = sorted((int(low), int(high or low)) for low, _, high in bounds)
    joined: list[tuple[int, int]] = []
    for low, high in spans:
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def _mask(text: str) -> Optional[int]:
    digits = text.replace(",", "").lower().removeprefix("0x")
    return int(digits, 16) if re.match(r"[0-9a-f]{1,4096}\Z", digits) else None
