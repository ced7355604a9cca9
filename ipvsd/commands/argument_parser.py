"""The grammar of the command line."""

from __future__ import annotations

import argparse
import functools
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Optional

from ipvsd import __version__
from ipvsd.commands import output
from ipvsd.config import spelling
from ipvsd.config.profiles import Version

# The meaning of each exit code. The comments are the text of ipvsd(8), in scdoc(5); 'make tables' writes it.
EXIT_CODES: Mapping[int, str] = {
    # The node is compliant, or the command succeeded.
    0: "compliant",
    # A required item is not compliant. *plan --exit-code* also exits 1 if there are changes to make. *apply
    # --persist* also exits 1 if a required item will not remain compliant, or if a file cannot be written. *explain*
    # also exits 1 if the item is not compliant, or if a file will set a different value. *doctor* exits 1
    # if it finds an error. The commands for a kube-proxy configuration also exit 1 if it has an error.
    1: "not compliant",
    # The result is unknown: something cannot be read, such as the configuration, or there is no kernel to check. If
    # a file cannot be read because of a lack of file descriptors, missing permissions or a disk error, ipvsd does not
    # treat the file as missing.
    output.EX_CANNOT_TELL: "unknown",
    # The command line is invalid, or a name is unknown or ambiguous. A line on standard error suggests the correct
    # word, or lists the known ones. On a terminal, ipvsd wraps this line.
    os.EX_USAGE: "invalid command line",
    # Standard output cannot be written: the disk is full, or standard output is not open for writing. Or the bundle of
    # *doctor* cannot be written. The reason is printed to standard error. This exit code replaces the exit code of the
    # verdict.
    os.EX_IOERR: "output error",
    # Another daemon is already running (*run*). If ipvsd runs as a service, systemd starts it again after
    # *RestartSec=*.
    os.EX_TEMPFAIL: "already running",
    # Root is required (*run*, *apply*).
    os.EX_NOPERM: "root required",
    # The configuration is invalid. Every error is printed to standard error.
    os.EX_CONFIG: "invalid configuration",
}


class UsageError(Exception):
    """The command line is invalid. The text contains the problem and a hint."""


class _Parser(argparse.ArgumentParser):
    """Accepts options only by their full name, because an abbreviation could later mean another option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self.color = False  # since Python 3.14

    def _print_message(self, message: str, file: object = None) -> None:  # noqa: ARG002 -- argparse's help and version
        output.print_lines(*message.splitlines())

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message} (run '{self.prog} --help')")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            kind = {"COMMAND": "command", "ACTION": "action"}.get(str(action.metavar))
            problem = (
                f"unknown {kind} {value!r}"
                if kind
                else f"invalid value {value!r} for {'/'.join(action.option_strings)}"
            )
            self._unknown(problem, value, list(action.choices))

    def _unknown(self, problem: str, word: str, known: Sequence[str]) -> NoReturn:
        """Raise UsageError with the known word that begins with this one or is most similar."""
        completions = [name for name in known if name.startswith(word)]
        closest = completions[0] if len(completions) == 1 else spelling.nearest(word, known)
        hint = f"did you mean {closest!r}?" if closest else f"known: {', '.join(known)};"
        raise UsageError(f"{self.prog}: {problem} ({hint} run '{self.prog} --help')")

    def refuse(self, rest: Sequence[str]) -> NoReturn:
        """Raise UsageError for remaining arguments."""
        word = rest[0].partition("=")[0]
        if not word.startswith("-") or word in ("-", "--"):
            self.error(f"unknown argument {rest[0]!r}")
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        self._unknown(f"unknown option {word}", word, known)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Reserves space for the longest command beside its help. argparse ignores that commands are indented twice."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = 13


def parse(arguments: Sequence[str]) -> Optional[argparse.Namespace]:
    """Parse the command line. Return None after printing help or the version. Raises UsageError."""
    parser = build_parser()
    first = next(iter(arguments), "")
    if first.startswith("-") and first not in ("-h", "--help", "--version"):
        parser.error(f"missing command before {first}: options follow the command")
    try:
        options, rest = parser.parse_known_args(arguments)
    except SystemExit:
        return None
    if rest:
        _chosen(parser, options).refuse(rest)
    return options


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether a command line, valid or not, requests JSON."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    return ("--output", "json") in zip(words, words[1:])


def _chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> _Parser:
    """Return the parser of the given command and its action."""
    for name in (options.command, getattr(options, "action", None)):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) and name in action.choices:
                parser = action.choices[name]
                break
    assert isinstance(parser, _Parser)
    return parser


@functools.cache
def build_parser() -> argparse.ArgumentParser:
    """Return the parser. It needs no third-party library, so that shell completions can be generated from it."""
    common = _Parser(add_help=False)
    common.add_argument("--config", metavar="FILE", help="read this file instead of the system configuration")
    common.add_argument("--root", metavar="DIR", default="/", help="use this tree, such as an image, instead of /")
    output = _Parser(add_help=False)
    output.add_argument("--output", choices=("text", "json"), default="text", help="output format (default: text)")
    parser = _Parser(
        prog="ipvsd",
        description="Keep a node ready for IPVS: load kernel modules and write sysctls.",
        epilog=_epilog(),
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"ipvsd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_checks(commands, common, output)
    _add_reports(commands, common, output)
    _add_doctor(commands, common, output)
    _add_profile(commands, output)
    _add_config(commands, common, output)
    return parser


def _epilog() -> str:
    # A no-break space keeps a code and its meaning on one line.
    codes = ", ".join(f"{code} {meaning}".replace(" ", "\xa0") for code, meaning in EXIT_CODES.items())
    text = textwrap.fill(f"exit codes: {codes}.", output.WIDTH).replace("\xa0", " ")
    return f"{text}\nSee ipvsd(8) and ipvsd.yaml(5)."


def _add_checks(commands: argparse._SubParsersAction[_Parser], common: _Parser, output: _Parser) -> None:
    commands.add_parser(
        "run",
        parents=[common],
        help="run the daemon in the foreground",
        description="Run the daemon in the foreground until SIGTERM or SIGINT. ipvsd.service runs this command.",
    )
    commands.add_parser(
        "check",
        parents=[common, output],
        help="check the node once, without changing anything",
        description="Check the node once, and print the state and the reasons, without changing anything.",
    )
    plan = commands.add_parser(
        "plan",
        parents=[common, output],
        help="print the changes that 'apply' would make",
        description="Print the changes that 'apply' would make, each with the profile or the configuration line that "
        "requests it, without changing anything.",
    )
    plan.add_argument(
        "--exit-code",
        action="store_true",
        help="exit 1 if changes are needed or a required item is not compliant",
    )
    apply = commands.add_parser(
        "apply",
        parents=[common, output],
        help="load the modules and write the sysctls once",
        description="Load the modules and write the sysctls once, without a daemon.",
    )
    apply.add_argument(
        "--persist",
        action="store_true",
        help="also write files that apply the configuration at every boot (modules-load.d, modprobe.d, sysctl.d)",
    )
    preflight = commands.add_parser(
        "preflight",
        parents=[common, output],
        help="check every installed kernel",
        description="Report whether each installed kernel can satisfy the configuration, without changing anything.",
    )
    preflight.add_argument("--kernel", metavar="RELEASE", help="check only this kernel")
    preflight.add_argument("--brief", action="store_true", help="print one line for each kernel")


def _add_reports(commands: argparse._SubParsersAction[_Parser], common: _Parser, output: _Parser) -> None:
    commands.add_parser(
        "status",
        parents=[common, output],
        help="print the daemon's last result",
        description="Print the running daemon's last result, without changing anything.",
    )
    explain = commands.add_parser(
        "explain",
        parents=[common, output],
        help="explain one item, and list the settings on disk that affect it",
        description="Print an item's actual value, its desired value with the reason, its last change, and the "
        "settings on disk that affect it, without changing anything.",
    )
    explain.add_argument("name", metavar="NAME", help="a sysctl, a module, MODULE.PARAMETER or an interface")
    history = commands.add_parser(
        "history",
        parents=[common, output],
        help="print the most recent repairs and what caused the drift",
        description="Print the most recent repairs, each with the program that caused the drift.",
    )
    history.add_argument("--lines", metavar="N", type=_number, default=20, help="print at most N repairs (default: 20)")


def _add_doctor(commands: argparse._SubParsersAction[_Parser], common: _Parser, output: _Parser) -> None:
    doctor = commands.add_parser(
        "doctor",
        parents=[common, output],
        help="find out why kube-proxy does not use IPVS",
        description="Examine the node and the running kube-proxy, and print every problem, the most severe first, "
        "with its evidence and the command or line that fixes it, without changing anything. With an action, check a "
        "file instead.",
    )
    doctor.add_argument(
        "--bundle", metavar="FILE", help="also write the data for a bug report, without secrets (tar.gz)"
    )
    actions = doctor.add_subparsers(dest="action", metavar="ACTION")
    # argparse does not show that the action is optional.
    doctor.usage = doctor.format_usage().strip().removeprefix("usage: ").replace("ACTION ...", "[ACTION ...]")
    lint = actions.add_parser(
        "kube-proxy-config",
        parents=[_without_defaults(common), _without_defaults(output)],
        help="check a kube-proxy configuration, or correct it",
        description="Check a kube-proxy configuration: a KubeProxyConfiguration, the ConfigMap that contains it, a "
        "kubeadm file, a pod manifest, a systemd unit, a list of options, or a k3s or RKE2 configuration.",
    )
    lint.add_argument("file", metavar="FILE", help="the file to check, or - for standard input")
    lint.add_argument("--fix", action="store_true", help="print the corrected file")
    _add_version(lint)


def _without_defaults(parent: _Parser) -> _Parser:
    """Return the same options for a nested parser, whose defaults would replace the values of the outer one."""
    copy = _Parser(add_help=False)
    for action in parent._actions:
        settings: dict[str, Any] = {"choices": action.choices} if action.choices else {"metavar": action.metavar}
        copy.add_argument(*action.option_strings, default=argparse.SUPPRESS, help=action.help, **settings)
    return copy


def _add_version(parser: _Parser) -> None:
    parser.add_argument("--kube-proxy-version", metavar="VERSION", type=_version, help="the version of kube-proxy")


def _add_profile(commands: argparse._SubParsersAction[_Parser], output: _Parser) -> None:
    profile = commands.add_parser(
        "profile",
        help="list the built-in profiles, or show one",
        description="List the built-in profiles, or show one profile.",
    )
    choices = profile.add_subparsers(dest="action", metavar="ACTION", required=True)
    choices.add_parser(
        "list",
        parents=[output],
        help="print every profile with its purpose",
        description="Print every built-in profile with its purpose.",
    )
    shown = choices.add_parser(
        "show",
        parents=[output],
        help="print the items of a profile, with reasons",
        description="Print the modules and sysctls of a profile, with conditions and reasons.",
    )
    shown.add_argument("name", metavar="NAME", help="the profile")


def _add_config(commands: argparse._SubParsersAction[_Parser], common: _Parser, output: _Parser) -> None:
    config = commands.add_parser(
        "config",
        help="show, validate or create the configuration",
        description="Show, validate or create the configuration.",
    )
    actions = config.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser(
        "show",
        parents=[common, output],
        help="print the effective values and their origins",
        description="Print the effective value of every setting, with the file and line that set it.",
    )
    validate = actions.add_parser(
        "validate",
        parents=[common, output],
        help="check the configuration, or only FILE",
        description="Check the configuration, or only FILE, and print every error.",
    )
    validate.add_argument(
        "file", nargs="?", metavar="FILE", help="the file to check (default: the system configuration)"
    )
    from_kube_proxy = actions.add_parser(
        "from-kube-proxy",
        parents=[common],
        help="print a drop-in that matches kube-proxy",
        description="Print a drop-in for /etc/ipvsd/conf.d that matches a kube-proxy configuration: the profile, "
        "the scheduler, strictARP, the size of the conntrack table and the version.",
    )
    from_kube_proxy.add_argument("file", metavar="FILE", help="kube-proxy's file, or - for standard input")
    _add_version(from_kube_proxy)


def _version(text: str) -> Version:
    from ipvsd.config.value_readers import SettingError
    from ipvsd.kube_proxy.config_check import parse_version

    try:
        return parse_version(text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(f"invalid version {text!r} ({error.hint})") from None


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: must be a number from 1 to 1000000")
    return number
