"""A property as a test: a few inputs at every run of the tests, and as many as there is time for in `make fuzz`.

`IPVSD_FUZZ` is how many seconds all properties of a run take together. Without it each property is tried with the
same few inputs at every run.
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
_BATCH = 100  # inputs before the time is looked at

Property = Callable[..., None]

_LIMITS = settings(
    deadline=None,  # `limited` measures CPU time, which a busy machine does not change
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
    report_multiple_bugs=False,
    # Not `explain`, which traces every line: that takes many times as long.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


class TooSlowError(AssertionError):
    """An input took more time than it may."""


class Share:
    """How many seconds each property has; tests/fuzz/conftest.py counts the properties."""

    seconds = SECONDS


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooSlowError in code that takes more than this much CPU time of the process."""

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
    """Make a test of a property of these inputs, each of which takes at most `seconds` of CPU time.

    Every run tries the files in the directory `kept` first, for a property of one input of bytes. Inputs of other
    properties are kept by `@example`, below this decorator.
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
                warnings.simplefilter("ignore", HypothesisWarning)  # that an input is long; pytest undoes it
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
    # The database has the inputs that failed before, which are tried again first.
    return settings(
        _LIMITS, max_examples=_BATCH, derandomize=False, database=DirectoryBasedExampleDatabase(FOUND / "database")
    )


def _how_to_keep(name: str, kept: str, values: tuple[Any, ...]) -> str:
    """Return how to keep the smallest input that failed, which is the last one that was tried."""
    if not kept:
        return f"To keep it: write '@example({', '.join(map(repr, values))})' below @fuzz of {name}."
    file = FOUND / kept / hashlib.sha256(values[0]).hexdigest()[:12]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(values[0])
    return f"To keep it: cp {file} {KEPT / kept}/WHAT-IT-IS"
