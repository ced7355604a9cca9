"""The command line: arguments to commands, expected errors to exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    import argparse

EX_NOPERM = 77
EX_CONFIG = 78


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["run"]:
        # As the service says it: the grammar of all commands is not needed, which takes as long to
        # make as a quarter of the daemon. Garbage is collected from the first wait on.
        gc.disable()
        return _guarded(lambda: _daemon("/", None))
    from ipvsd.arguments import wants_json

    return _as_json(lambda: _run(given)) if wants_json(given) else _guarded(lambda: _run(given))


def _run(given: Sequence[str]) -> int:
    from ipvsd.arguments import EX_USAGE, UsageError, parse

    try:
        options = parse(given)
    except UsageError as error:
        print(error, file=sys.stderr)
        return EX_USAGE
    if not os.path.isdir(getattr(options, "root", "/")):
        print(f"ipvsd: cannot use --root {options.root}: not a directory", file=sys.stderr)
        return EX_USAGE
    return _dispatch(options)


def _as_json(command: Callable[[], int]) -> int:
    """Run a command that prints JSON; if it fails without a document of its own, print one of what it complained."""
    import contextlib
    import json

    out, complaints = io.StringIO(), io.StringIO()

    def run() -> int:
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
                code = _caught(command)
        finally:
            sys.stderr.write(complaints.getvalue())
        text = out.getvalue()
        if code and not text.strip():
            errors = [line.removeprefix("ipvsd: ") for line in complaints.getvalue().splitlines()]
            text = json.dumps({"error": errors[0] if errors else "failed", "errors": errors}, indent=2) + "\n"
        sys.stdout.write(text)
        return code

    return _guarded(run)


def _caught(command: Callable[[], int]) -> int:
    from ipvsd.config import ConfigError

    try:
        return command()
    except ConfigError as error:
        print("\n".join(error.errors), file=sys.stderr)
        return EX_CONFIG


def _guarded(command: Callable[[], int]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _caught(command)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (a pager, head) has seen enough; keep the interpreter from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return code


def _daemon(root: str, only: Optional[str]) -> int:
    if root == "/" and os.geteuid() != 0:
        print("ipvsd: cannot run the daemon: not root (run: systemctl start ipvsd)", file=sys.stderr)
        return EX_NOPERM
    from ipvsd.daemon import run

    return run(root, only)


def _dispatch(options: argparse.Namespace) -> int:
    """Import the one command that was asked for, and run it."""
    if options.command == "profile":
        from ipvsd.commands import profile

        return (
            profile.listed(options.output) if options.action == "list" else profile.show(options.name, options.output)
        )
    root, only = options.root, options.config
    if options.command == "run":
        return _daemon(root, only)
    if options.command == "check":
        from ipvsd.commands import check

        return check.run(root, only, options.output)
    if options.command == "plan":
        from ipvsd.commands import plan

        return plan.run(root, only, options.output, options.exit_code)
    if options.command == "apply":
        from ipvsd.commands import apply

        return apply.run(root, only, options.output, options.persist)
    if options.command == "preflight":
        from ipvsd.commands import preflight

        return preflight.run(root, only, options.output, options.kernel, options.brief)
    if options.command == "history":
        from ipvsd.commands import history

        return history.run(root, options.output, options.lines)
    if options.command == "status":
        from ipvsd.commands import status

        return status.run(root, options.output)
    if options.command == "explain":
        from ipvsd.commands import explain

        return explain.run(root, only, options.output, options.name)
    from ipvsd.commands import config

    if options.action == "show":
        return config.show(root, only, options.output)
    return config.validate(root, options.file or only, options.output)
