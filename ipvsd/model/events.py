"""Events of event sources: the item to read, and the writes that caused the event, if known."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from ipvsd.model.report import Writer


class Write(NamedTuple):
    """A write to a sysctl, or the unloading of a module, as the kernel reported it.

    The value is None for an unloading or a truncated report. Calling `writer` takes longer than a repair.
    """

    value: Optional[str]
    writer: Callable[[], Writer]
    before: str  # the value that it replaces
    at: float  # CLOCK_MONOTONIC time of the write, in seconds
    ours: bool = False  # the sysctl is certainly in ipvsd's network namespace
    times: int = 1  # number of consecutive repetitions by the same process
    refused: bool = False  # the kernel refused it because of a guard


class Event(NamedTuple):
    """An event with known writes. It selects the item to read; the reading decides what to write.

    Its fields are the arguments of EventSink.on_event(), which takes no Event: it is not made before the repair.
    """

    name: str
    at: float  # CLOCK_MONOTONIC time of arrival, in seconds
    stored: bool
    writes: Callable[[], Sequence[Write]]  # the writes that caused it, oldest first
