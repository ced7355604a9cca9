"""Operations on a tree or an image for the tests of the next boot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ipvsd.cli import main
from tests.trees import make_tree, put

Output = pytest.CaptureFixture[str]


def make_image(root: Path) -> Path:
    """Create an image, in which no kernel runs."""
    make_tree(root, live=(), values={})
    shutil.rmtree(root / "proc")
    shutil.rmtree(root / "sys")
    return root


def run(capsys: Output, root: Path, *arguments: str) -> tuple[int, str, str]:
    """Return the exit code and the output of a command, each in one line and without the path of the tree."""
    code = main([*arguments, "--root", str(root)])
    out, err = (" ".join(text.split()).replace(str(root), "") for text in capsys.readouterr())
    return code, out, err


def values(capsys: Output, root: Path, *arguments: str) -> tuple[int, Any]:
    """Return the exit code and the JSON of a command."""
    code = main([*arguments, "--output", "json", "--root", str(root)])
    return code, json.loads(capsys.readouterr().out)


def sysctl_conf(root: Path, text: str) -> None:
    """Create /etc/sysctl.conf as in Debian until 12."""
    put(root, "etc/sysctl.conf", text)
    (root / "etc/sysctl.d").mkdir(exist_ok=True)
    (root / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
