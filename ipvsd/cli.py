"""The command line: arguments to commands, expected errors to exit codes."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Optional

from ipvsd import __version__
from ipvsd.config import ConfigError

EX_USAGE = 64
EX_NOPERM = 77
EX_CONFIG = 78

EPILOG = """\
exit codes: 0 right, 1 not right, 2 cannot tell, 64 bad usage, 77 needs root,
78 bad configuration. See ipvsd(8) and ipvsd.yaml(5)."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message} (see '{self.prog} --help')\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves room for the longest command beside its help: argparse forgets that commands are indented twice."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = 13


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; needs no third party, so that completions can be made from it."""
    common = _Parser(add_help=False)
    common.add_argument("--config", metavar="FILE", help="read this file instead of the system's configuration")
    common.add_argument("--root", metavar="DIR", default="/", help="look at this tree instead of / (an image)")
    output = _Parser(add_help=False)
    output.add_argument("--output", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser = _Parser(
        prog="ipvsd",
        description="Keep a node ready for IPVS: kernel modules loaded, sysctls in place.",
        epilog=EPILOG,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"ipvsd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("run", parents=[common], help="run the daemon in the foreground (ipvsd.service does)")
    commands.add_parser("check", parents=[common, output], help="look and print; change nothing")
    plan = commands.add_parser("plan", parents=[common, output], help="show what 'apply' would do, as a diff")
    plan.add_argument("--exit-code", action="store_true", help="exit 1 if there is anything to do")
    apply = commands.add_parser("apply", parents=[common, output], help="make the node right once, without a daemon")
    apply.add_argument("--persist", action="store_true", help="and for every boot: write modules-load.d, sysctl.d")
    preflight = commands.add_parser("preflight", parents=[common, output], help="look at every installed kernel")
    preflight.add_argument("--kernel", metavar="RELEASE", help="look at this one alone")
    preflight.add_argument("--brief", action="store_true", help="print one line for each")
    commands.add_parser("status", parents=[common, output], help="print what the running daemon last saw")
    explain = commands.add_parser(
        "explain", parents=[common, output], help="all about one sysctl or module, and who else sets it"
    )
    explain.add_argument("name", metavar="NAME", help="a sysctl, a module, or MODULE.PARAMETER")
    history = commands.add_parser(
        "history", parents=[common, output], help="print the last repairs, and who made each needed"
    )
    history.add_argument("--lines", metavar="N", type=_number, default=20, help="so many at most (default: 20)")
    profile = commands.add_parser("profile", help="list the built-in profiles, or show one with its reasons")
    choices = profile.add_subparsers(dest="action", metavar="ACTION", required=True)
    choices.add_parser("list", parents=[output], help="print every profile with its purpose")
    shown = choices.add_parser("show", parents=[output], help="print what a profile wants, and why")
    shown.add_argument("name", metavar="NAME", help="the profile")
    config = commands.add_parser("config", help="show or validate the configuration")
    actions = config.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("show", parents=[common, output], help="print the effective values and their files")
    validate = actions.add_parser("validate", parents=[common, output], help="check the files, or FILE")
    validate.add_argument("file", nargs="?", metavar="FILE", help="the file to check (default: the system's)")
    return parser


_RUN = argparse.Namespace(command="run", root="/", config=None)


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return number


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code. Usage errors exit 64 from here."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # As the service says it: making the parsers of all commands takes as long as to import a quarter of the daemon.
    options = _RUN if given == ["run"] else build_parser().parse_args(given)
    if not os.path.isdir(getattr(options, "root", "/")):
        print(f"ipvsd: cannot use --root {options.root}: not a directory", file=sys.stderr)
        return EX_USAGE
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(options)
        sys.stdout.flush()
    except ConfigError as error:
        print("\n".join(error.errors), file=sys.stderr)
        return EX_CONFIG
    except BrokenPipeError:
        # The reader (a pager, head) has seen enough; keep the interpreter from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return code


def _dispatch(options: argparse.Namespace) -> int:
    """Import the one command that was asked for, and run it."""
    if options.command == "profile":
        from ipvsd.commands import profile

        return (
            profile.listed(options.output) if options.action == "list" else profile.show(options.name, options.output)
        )
    root, only = options.root, options.config
    if options.command == "run":
        if root == "/" and os.geteuid() != 0:
            print("ipvsd: cannot run the daemon: not root (run: systemctl start ipvsd)", file=sys.stderr)
            return EX_NOPERM
        from ipvsd.daemon import run

        return run(root, only)
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
