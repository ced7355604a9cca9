"""A part of the table of faults (`make faults`), which differs between commits, but not between runs."""

from __future__ import annotations

import subprocess
import sys

from tests.service import REPOSITORY


def test_a_daemon_whose_system_calls_fail_repairs_its_node() -> None:
    count = ["git", "rev-list", "--count", "HEAD"]
    commits = subprocess.run(count, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.strip()
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.faults", "--part", commits or "0"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
