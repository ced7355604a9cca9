"""Read stored JSON with validation: it can be damaged by a crash, or written by another version or user."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NoReturn, Optional

from ipvsd.runtime import rootfs

_MAX_DIGITS = 20  # before the decimal point; before Python 3.11, converting thousands of digits takes seconds

# A shape is a type, a list of one shape, a mapping of names to shapes (which permits further names), or a tuple of
# one shape, which permits None.
Shape = Any


class UnusableError(Exception):
    """The file exists, but its content cannot be trusted; the text is the reason."""


def read(root: str, path: str, limit: int = rootfs.MAX_BYTES, tail: bool = False) -> Optional[bytes]:
    """Return a file's content, or None if it is absent. With `tail`, return at most the last `limit` bytes.

    If the root is /, only root may have written the file. Raises UnusableError, and rootfs.UnreadableError.
    """
    try:
        with rootfs.open_file(root, path) as fd:
            status = os.fstat(fd)
            if root == "/" and not rootfs.trusted(status):
                others = "users other than root can write the file"
                raise UnusableError(f"the file belongs to uid {status.st_uid}" if status.st_uid else others)
            if status.st_size > limit:
                if not tail:
                    raise UnusableError(f"the file is larger than {limit} bytes")
                os.lseek(fd, -limit, os.SEEK_END)
            return rootfs.read_at_most(fd, limit)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except rootfs.IrregularError:
        raise UnusableError("not a regular file") from None
    except OSError as error:
        raise rootfs.UnreadableError(error.errno, error.strerror, os.path.join(root, path)) from error


def parse(data: bytes) -> Any:
    """Parse a JSON text strictly, without NaN and infinity. Raises UnusableError."""
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_float=_parse_float, parse_int=_parse_integer)
    except RecursionError:
        raise UnusableError("the file is damaged: nested too deeply") from None
    except ValueError as error:
        raise UnusableError(f"the file is damaged: {error}") from None


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"invalid number {word}")


def _parse_float(digits: str) -> float:
    number = float(digits)
    return number if abs(number) < 10**_MAX_DIGITS else _refuse_constant(digits[:_MAX_DIGITS])


def _parse_integer(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_DIGITS else _refuse_constant(f"{digits[:_MAX_DIGITS]}...")


def check(found: object, shape: Shape, name: str = "document") -> None:
    """Raise UnusableError unless a value has a shape. `float` permits any number."""
    if isinstance(shape, tuple):
        if found is not None:
            check(found, shape[0], name)
    elif isinstance(shape, list):
        check(found, list, name)
        for index, item in enumerate(found if isinstance(found, list) else ()):
            check(item, shape[0], f"{name}[{index}]")
    elif isinstance(shape, Mapping):
        check(found, dict, name)
        for key, inner in shape.items():
            path = key if name == "document" else f"{name}.{key}"
            if not isinstance(found, dict) or key not in found:
                raise UnusableError(f"missing {path}")
            check(found[key], inner, path)
    elif type(found) is not shape and not (shape is float and type(found) is int):  # True is not a number
        raise UnusableError(f"the file is damaged: invalid {name}")
