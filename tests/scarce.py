"""A shortage of file descriptors, and of space in a file system, through the limits of this process."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def few_descriptors(left: int = 0) -> Iterator[None]:
    """Limit this process to `left` further descriptors."""
    free = os.dup(0)
    os.close(free)
    with _limit(resource.RLIMIT_NOFILE, free + left):
        yield


@contextmanager
def full(size: int) -> Iterator[None]:
    """Let the kernel store a part of a write, and refuse the part over a size, like a full file system."""
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
