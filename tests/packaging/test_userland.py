"""The quick tests, with the Python and the libraries of the bench's Debian instead of those from PyPI."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.packaging.built import copy_tree
from tests.packaging.root import Root

QUICK = "not vm and not namespace and not packaging"


def test_the_quick_tests_pass_with_the_libraries_of_the_distribution(root: Root, tmp_path: Path) -> None:
    copy_tree(tmp_path / "tree")
    subprocess.run(["tar", "-cf", tmp_path / "tree.tar", "-C", tmp_path / "tree", "."], check=True)
    root.copy(tmp_path / "tree.tar", "tmp/tree.tar")
    # Its warnings are about the distribution's versions, and it may not have learnt what `pythonpath` means.
    options = f"-q -p no:cacheprovider -o filterwarnings= -o addopts=--import-mode=importlib -m '{QUICK}'"
    done = root.run(
        "mkdir /tmp/tree; cd /tmp/tree; tar -xf ../tree.tar; export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.:packaging; "
        f"python3 -m pytest {options} tests",
        check=False,
        proc=True,
    )
    root.run("rm -rf /tmp/tree /tmp/tree.tar")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
