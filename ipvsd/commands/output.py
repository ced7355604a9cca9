"""Standard output and standard error of the commands. No other module prints.

The output is kept until the exit code is known, so that a reader who leaves, or a full disk, cannot change the
verdict. This module makes each line printable.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

from ipvsd.model import printable
from ipvsd.runtime import stdio

EX_CANNOT_TELL = 2
WIDTH = 80

# A random mark for colours in kept lines, which text from before this process cannot contain.
_MARK = f"\x1b{os.urandom(8).hex()}"


class _Output(NamedTuple):
    lines: tuple[str, ...]
    is_error: bool = False
    text: Optional[str] = None  # instead of lines: a document that is already printable


_pending: list[_Output] = []


def print_lines(*lines: str) -> None:
    """Print lines to standard output, whatever characters they contain."""
    _pending.append(_Output(lines))


def print_json(document: Any) -> None:
    _pending.append(_Output((), text=printable.as_json(document, indent=2)))


def print_text(text: str) -> None:
    """Print a text to standard output without a change. The caller guarantees that it is printable."""
    _pending.append(_Output((), text=text.removesuffix("\n")))


def print_errors(*lines: str) -> None:
    _pending.append(_Output(lines, is_error=True))


def is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def coloured(text: str, code: str) -> str:
    """Return a part of a line for display in a colour, by its code (ECMA-48, SGR)."""
    return f"{_MARK}{code}m{text}{_MARK}0m"


def run(command: Callable[[], int], as_json: Callable[[], bool] = lambda: False) -> int:
    """Run a command, write its output, and return its exit code, or os.EX_IOERR if the output cannot be written.

    A reader who has left, and a closed stream, change nothing. If `as_json` returns True, errors without a document
    become one.
    """
    _pending.clear()
    stdio.open_missing_streams()
    code = command()
    if code and all(item.is_error for item in _pending) and as_json():
        errors = [line.removeprefix("ipvsd: ") for item in _pending for line in item.lines]
        print_json({"error": errors[0] if errors else "unknown error", "errors": errors})
    return _written(code)


def _written(code: int) -> int:
    for item in _pending:
        lines = _folded(item.lines) if item.is_error else item.lines
        text = f"{item.text}\n" if item.text is not None else "".join(f"{_shown(line)}\n" for line in lines)
        if item.is_error:
            with contextlib.suppress(OSError):
                stdio.write(sys.stderr, text)
            continue
        try:
            stdio.write(sys.stdout, text)
        except BrokenPipeError:
            continue  # the reader (a pager, head) has left, but may read errors elsewhere
        except OSError as error:
            code = os.EX_IOERR
            with contextlib.suppress(OSError):
                stdio.write(sys.stderr, f"ipvsd: cannot write to standard output: {error.strerror}\n")
    return code


def _folded(lines: Sequence[str]) -> Sequence[str]:
    """Wrap errors to the width of a terminal. Elsewhere, each stays one line for scripts."""
    if sys.stderr is None or not sys.stderr.isatty():
        return lines
    import textwrap

    wrapper = textwrap.TextWrapper(WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in (wrapper.wrap(line) or [""])]


def _shown(line: str) -> str:
    """Return a line for the terminal, with no escape sequences except those of colours."""
    first, *others = line.split(_MARK)
    coloured = (part.partition("m") for part in others)
    parts = [f"\033[{code}m{printable.line(text, printable.MAX_TEXT)}" for code, _, text in coloured]
    return "".join([printable.line(first, printable.MAX_TEXT), *parts])
