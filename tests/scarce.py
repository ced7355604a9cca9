"""A lack of file descriptors, and of room in a file system, by the limits of this process."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def few_descriptors(left: int = 0) -> Iterator[None]:
    """Leave this process so many descriptors that it can open."""
    free = os.dup(0)
    os.close(free)
    with _limit(resource.RLIMIT_NOFILE, free + left):
        yield


@contextmanager
def full(size: int) -> Iterator[None]:
    """Have the kernel take a part of what is written, and refuse what goes over a size, as a full file system does."""
    with _limit(resource.RLIMIT_FSIZE, size):  # Python ignores SIGXFSZ
        yield


@contextmanager
def _limit(kind: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)
