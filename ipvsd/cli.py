"""The command line: dispatch arguments to commands, and map expected errors to exit codes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, Optional

from ipvsd.commands import output
from ipvsd.runtime import rootfs

if TYPE_CHECKING:
    import argparse


def main(arguments: Optional[Sequence[str]] = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["run"]:
        # As in the unit. Building the grammar of all commands takes a quarter of the daemon's start, and is not
        # needed. The main loop enables garbage collection after the first reconciliation.
        gc.disable()
        return output.run(lambda: _run_reporting_errors(lambda: _daemon("/", None)))
    return output.run(lambda: _run_reporting_errors(lambda: _run(given)), lambda: _wants_json(given))


def _wants_json(given: Sequence[str]) -> bool:
    from ipvsd.commands.argument_parser import wants_json

    return wants_json(given)


def _run(given: Sequence[str]) -> int:
    from ipvsd.commands.argument_parser import UsageError, parse

    try:
        options = parse(given)
    except UsageError as error:
        output.print_errors(str(error))
        return os.EX_USAGE
    if options is None:
        return 0
    root = getattr(options, "root", "/")
    if not rootfs.is_directory(root, ""):
        output.print_errors(f"ipvsd: cannot use --root {root}: not a directory")
        return os.EX_USAGE
    if root != "/":
        from ipvsd.kernel.roots import normalise_root

        options.root = normalise_root(root)
    return _dispatch(options)


def _run_reporting_errors(command: Callable[[], int]) -> int:
    from ipvsd.config.parser import ConfigError

    try:
        return command()
    except ConfigError as error:
        output.print_errors(*error.errors)
        return output.EX_CANNOT_TELL if error.unreadable else os.EX_CONFIG
    except rootfs.UnreadableError as error:
        output.print_errors(f"ipvsd: {error}")
        return output.EX_CANNOT_TELL


def _daemon(root: str, config_path: Optional[str]) -> int:
    if root == "/" and os.geteuid() != 0:
        output.print_errors("ipvsd: cannot run the daemon: root required (run 'systemctl start ipvsd')")
        return os.EX_NOPERM
    from ipvsd.daemon.main import run

    return run(root, config_path)


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "profile":
        from ipvsd.commands import profile

        return (
            profile.listed(options.output) if options.action == "list" else profile.show(options.name, options.output)
        )
    root, config_path = options.root, options.config
    if options.command == "run":
        return _daemon(root, config_path)
    if options.command == "check":
        from ipvsd.commands import check

        return check.run(root, config_path, options.output)
    if options.command == "plan":
        from ipvsd.commands import plan

        return plan.run(root, config_path, options.output, options.exit_code)
    if options.command == "apply":
        from ipvsd.commands import apply

        return apply.run(root, config_path, options.output, options.persist)
    if options.command == "preflight":
        from ipvsd.commands import preflight

        return preflight.run(root, config_path, options.output, options.kernel, options.brief)
    if options.command == "history":
        from ipvsd.commands import history

        return history.run(root, options.output, options.lines)
    if options.command == "status":
        from ipvsd.commands import status

        return status.run(root, options.output)
    if options.command == "doctor":
        return _doctor(options)
    if options.command == "explain":
        from ipvsd.commands import explain

        return explain.run(root, config_path, options.output, options.name)
    from ipvsd.commands import config

    if options.action == "from-kube-proxy":
        from ipvsd.commands import config_from_kube_proxy

        return config_from_kube_proxy.run(root, config_path, options.file, options.kube_proxy_version)
    if options.action == "show":
        return config.show(root, config_path, options.output)
    return config.validate(root, options.file or config_path, options.output)


def _doctor(options: argparse.Namespace) -> int:
    if options.action == "kube-proxy-config":
        from ipvsd.commands import doctor_kube_proxy_config

        return doctor_kube_proxy_config.run(
            options.root, options.config, options.output, options.file, options.fix, options.kube_proxy_version
        )
    from ipvsd.commands import doctor

    return doctor.run(options.root, options.config, options.output, options.bundle)
