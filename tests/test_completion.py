"""packaging/completion/ipvsd offers the words that the parser knows, and plain bash can run it."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ipvsd.commands.argument_parser import build_parser

SCRIPT = Path(__file__).parents[1] / "packaging/completion/ipvsd"
BASH = shutil.which("bash") or "/bin/bash"


def commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    return {
        name: command
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, command in action.choices.items()
    }


def walk(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, the outermost first."""
    yield path
    for name, command in commands(parser).items():
        yield from walk(command, (*path, name))


def parser_of(path: tuple[str, ...]) -> argparse.ArgumentParser:
    parser = build_parser()
    for name in path[1:]:
        parser = commands(parser)[name]
    return parser


def long_options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


def complete(*words: str, cwd: Path | None = None) -> set[str]:
    """Return the words that bash would offer for the last of `words`."""
    line = " ".join(shlex.quote(word) for word in words)
    script = f"""
        set -u
        . {shlex.quote(str(SCRIPT))}
        COMP_WORDS=({line}) COMP_CWORD={len(words) - 1} COMPREPLY=()
        _ipvsd
        for word in "${{COMPREPLY[@]+"${{COMPREPLY[@]}}"}}"; do printf '%s\\n' "$word"; done
    """
    done = subprocess.run(
        [BASH, "--norc", "--noprofile", "-c", script], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


PATHS = list(walk(build_parser(), ("ipvsd",)))


def test_bash_accepts_it() -> None:
    done = subprocess.run([BASH, "-n", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_and_option_is_offered_and_nothing_else(path: tuple[str, ...]) -> None:
    parser = parser_of(path)
    # If a file name is possible, only a dash requests options.
    offered = complete(*path, "-") | (complete(*path, "") if commands(parser) else set())
    assert offered == long_options(parser) | set(commands(parser))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ch",), {"check"}),
        (("c",), {"check", "config"}),
        (("e",), {"explain"}),
        (("plan", "--e"), {"--exit-code"}),
        (("check", "--output", ""), {"text", "json"}),
        (("check", "--output", "j"), {"json"}),
        (("check", "--output", "json", "--r"), {"--root"}),
        (("config", "v"), {"validate"}),
        (("doctor", "k"), {"kube-proxy-config"}),
        # The value of an option is not a command.
        (("config", "show", "--root", "check", "--o"), {"--output"}),
        (("nonsense", ""), set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_words(words: tuple[str, ...], expected: set[str]) -> None:
    assert complete("ipvsd", *words) == expected


def test_every_choice_of_an_option_is_offered() -> None:
    for path in PATHS:
        for action in parser_of(path)._actions:
            if action.option_strings and action.choices:
                assert complete(*path, action.option_strings[-1], "") == set(action.choices)


@pytest.mark.parametrize(
    "before",
    [("check", "--config"), ("config", "validate"), ("config", "from-kube-proxy"), ("doctor", "kube-proxy-config")],
    ids=" ".join,
)
def test_files_are_offered_for_file_arguments(before: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "site.yaml").touch()
    (tmp_path / "tree").mkdir()
    assert complete("ipvsd", *before, "", cwd=tmp_path) == {"site.yaml", "tree"}


def test_directories_are_offered_for_a_root(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").touch()
    (tmp_path / "tree").mkdir()
    assert complete("ipvsd", "check", "--root", "", cwd=tmp_path) == {"tree"}
