"""A property as a test: with a few inputs in every run, and with as many as possible in `make fuzz`.

`IPVSD_FUZZ` is the time in seconds for all properties of a run. Without it, each run tries the same few inputs for
each property.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.errors import HypothesisWarning
from hypothesis.strategies import SearchStrategy

KEPT = Path(__file__).parent / "kept"
FOUND = Path(__file__).parents[2] / "build/fuzz"
SECONDS = float(os.environ.get("IPVSD_FUZZ") or 0)
_QUICK = 10  # inputs of each property
_BATCH = 100  # inputs between two checks of the time

Property = Callable[..., None]

_LIMITS = settings(
    deadline=None,  # `limited` measures CPU time, which does not depend on the load of the machine
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
    report_multiple_bugs=False,
    # Without `explain`, which traces every line and is many times slower.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


class TooSlowError(AssertionError):
    """An input took too much time."""


class Share:
    """The seconds of each property. tests/fuzz/conftest.py counts the properties."""

    seconds = SECONDS


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooSlowError if the body uses more than this CPU time of the process."""

    def end(_: int, __: object) -> None:
        raise TooSlowError(f"took more than {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def fuzz(
    *inputs: SearchStrategy[Any], kept: str = "", seconds: float = 1.0, quick: int = _QUICK
) -> Callable[[Property], Callable[[], None]]:
    """Create a test of a property of these inputs. Each input may use `seconds` of CPU time.

    Every run first tries the files in the directory `kept`, if the property has one input of bytes. For other
    properties, add `@example` below this decorator.
    """

    def made(holds: Property) -> Callable[[], None]:
        failed: list[tuple[object, ...]] = []

        @functools.wraps(holds)
        def bounded(**values: object) -> None:
            try:
                with limited(seconds):
                    holds(**values)
            except Exception:
                failed[:] = [tuple(values.values())]
                raise

        tried: Property = given(*inputs)(bounded)
        for file in sorted((KEPT / kept).iterdir(), reverse=True) if kept else ():
            tried = example(file.read_bytes())(tried)
        tried = _profile(quick)(tried)

        def test() -> None:
            end = time.monotonic() + Share.seconds
            try:
                warnings.simplefilter("ignore", HypothesisWarning)  # about the length of an input; pytest restores it
                tried()
                while time.monotonic() < end:
                    tried()
            except Exception:
                if SECONDS and failed:
                    print(_how_to_keep(holds.__name__, kept, failed[0]))
                raise

        test.__name__, test.__qualname__, test.__module__ = holds.__name__, holds.__qualname__, holds.__module__
        return test

    return made


def _profile(quick: int) -> settings:
    if not SECONDS:
        return settings(_LIMITS, max_examples=quick, derandomize=True, database=None)
    # The database contains earlier failures, which are tried first.
    return settings(
        _LIMITS, max_examples=_BATCH, derandomize=False, database=DirectoryBasedExampleDatabase(FOUND / "database")
    )


def _how_to_keep(name: str, kept: str, values: tuple[Any, ...]) -> str:
    """Return the way to keep the smallest failing input, which is the last one that was tried."""
    if not kept:
        return f"To keep it: write '@example({', '.join(map(repr, values))})' below @fuzz of {name}."
    file = FOUND / kept / hashlib.sha256(values[0]).hexdigest()[:12]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(values[0])
    return f"To keep it: cp {file} {KEPT / kept}/WHAT-IT-IS"
