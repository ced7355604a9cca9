"""Files that a shell sources: os-release(5), and the configuration of ufw and GRUB."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from ipvsd.boot.kernel_command_line import command_line
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.kernel import os_release, shell_assignments
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import RootKind
from tests.trees import put


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("A=x\n", "x", id="plain"),
        pytest.param("A='x y'\n", "x y", id="single quotes"),
        pytest.param('A="x \\"\\$y\\" \\z"\n', 'x "$y" \\z', id="double quotes"),
        pytest.param("A=a'b'\"c\"\\ d\n", "abc d", id="joined"),
        pytest.param("A=x # y\n", "x", id="a comment"),
        pytest.param("A=x#y\n", "x#y", id="no comment"),
        pytest.param("#A=x\n", None, id="in a comment"),
        pytest.param(" \texport A=x\n", "x", id="export"),
        pytest.param("export B=1 A=x\n", "x", id="export of two"),
        pytest.param("A=x; A=y\n", "y", id="the last one"),
        pytest.param("A=x y\n", None, id="for one command"),
        pytest.param("A=x\n\nA = y\n", None, id="another command"),
        pytest.param('A="a\\\nb"\\\nc\n', "abc", id="continued"),
        pytest.param('A="a\nb"\n', "a\nb", id="two lines"),
        pytest.param("B=b\nA=$B${B}'$B'\n", "bb$B", id="references"),
        pytest.param("A=$HOME\n", None, id="the environment"),
        pytest.param("A=$(echo x)\n", None, id="a command"),
        pytest.param("A=`echo x`\n", None, id="a command in backquotes"),
        pytest.param("A=y\nif true; then A=x; fi\n", None, id="a condition"),
        pytest.param("A=y\n[ -e /x ] && A=x\n", None, id="and"),
        pytest.param("A=y\nexit\nA=x\n", None, id="after the end"),
        pytest.param("A=x\nB=1; A='y\n", "x", id="an unclosed quote"),
        pytest.param("A=x\nunset A\n", None, id="unset"),
        pytest.param("A=x\r\n", "x\r", id="a carriage return"),
        pytest.param("A=~/x\n", None, id="a home directory"),
        pytest.param("A=\n", "", id="empty"),
        pytest.param("A=x 2>/dev/null\n", None, id="a redirection"),
    ],
)
def test_a_variable_is_read_like_a_shell_reads_it(tmp_path: Path, text: str, value: Optional[str]) -> None:
    assert shell_assignments.certain(text, "A") == value
    if value is not None:
        (tmp_path / "file").write_bytes(text.encode())
        script = f"trap 'printf %s \"$A\"' EXIT; . {tmp_path}/file"
        done = subprocess.run(["sh", "-c", script], check=False, capture_output=True)
        assert done.stdout.decode() == value


def test_values_that_double_with_each_line_are_bounded() -> None:
    variables = shell_assignments.parse("A=x\n" + "A=$A$A\n" * 100)
    assert (len(variables["A"].text) <= 1 << 21, variables["A"].certain) == (True, False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param('PRETTY_NAME="Debian"\nID=debian\n', "debian", id="plain"),
        pytest.param("ID='opensuse-leap' # of 2024\n", "opensuse-leap", id="a comment"),
        pytest.param('ID=debian\nexport ID="ro"cky\n', "rocky", id="export"),
        pytest.param("VERSION_ID=12\n", "", id="no ID"),
        pytest.param("ID=Rm -rf", "", id="nonsense"),
        pytest.param("ID='Rm -rf'", "", id="no name"),
    ],
)
def test_the_distribution_is_the_id_of_os_release(text: str, name: str) -> None:
    assert os_release.distribution(os_release.parse(text)) == name


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"usr/lib/os-release": "ID=rocky\n"}, "rocky"),
        ({"usr/lib/os-release": "ID=rocky\n", "etc/os-release": "ID=debian\n"}, "debian"),
        ({"usr/lib/os-release": "ID=rocky\n", "etc/os-release": ""}, ""),
    ],
)
def test_the_first_os_release_counts(tmp_path: Path, files: Mapping[str, str], name: str) -> None:
    for path, text in files.items():
        put(tmp_path, path, text)
    put(tmp_path, "proc/sys/kernel/osrelease", "6.1.0\n")
    assert LinuxHost(str(tmp_path)).kernel([]).distribution == name


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"": "GRUB_CMDLINE_LINUX='a b' # c\n"}, "a b"),
        ({"": 'GRUB_CMDLINE_LINUX_DEFAULT=quiet\nGRUB_CMDLINE_LINUX="a=\\"b c\\""\n'}, 'a="b c" quiet'),
        ({"": "OTHER=1\nGRUB_CMDLINE_LINUX=a$OTHER`x`\n"}, "a1"),
        ({"": "GRUB_CMDLINE_LINUX=a\n", ".d/.x.cfg": "GRUB_CMDLINE_LINUX=b\n"}, "a"),
        ({"": "GRUB_CMDLINE_LINUX=a", ".d/x.cfg": "GRUB_CMDLINE_LINUX=$GRUB_CMDLINE_LINUX\\ b"}, "a b"),
    ],
)
def test_the_command_line_of_grub_is_read_like_a_shell_reads_it(
    tmp_path: Path, files: Mapping[str, str], found: str
) -> None:
    for suffix, text in files.items():
        put(tmp_path, f"etc/default/grub{suffix}", text)
    assert command_line(FileTree(str(tmp_path)), RootKind.FIRST_BOOT, "6.1.0") == found
