"""Events, as event sources deliver them: the item to read, and the writes that led to the event if they are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from ipvsd.model.report import Writer


class Write(NamedTuple):
    """A write to a sysctl, or the unloading of a module, as the kernel reported it.

    `value` is None for an unloading, and for a value that was reported in part. `writer` looks the process up, which
    takes longer than a repair.
    """

    value: Optional[str]
    writer: Callable[[], Writer]
    before: str  # the value that it replaces
    at: float  # when it was made: CLOCK_MONOTONIC, seconds
    ours: bool = False  # the sysctl is the one of our network namespace for sure
    times: int = 1  # how often the same process made the same write in a row
    refused: bool = False  # the kernel refused it for a guard


class Event(NamedTuple):
    """The item of this name may have changed. It selects the item to read; the reading decides what to write.

    Its fields are the arguments of EventSink.on_event(), which takes no Event: it is not made before the repair.
    """

    name: str
    at: float  # when it arrived: CLOCK_MONOTONIC, seconds
    stored: bool = True
    writes: Optional[Callable[[], Sequence[Write]]] = None  # those that led to it, oldest first
