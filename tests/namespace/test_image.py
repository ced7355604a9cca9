"""An image that is being built, with the build machine's /proc and /sys mounted in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.boots import enable, make_image
from tests.fake_kernel import RELEASE

PROJECT = Path(__file__).parents[2]


def test_the_kernel_of_the_build_machine_is_not_taken_for_that_of_the_image(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image")
    enable(image)
    (image / "proc").mkdir()
    (image / "sys").mkdir()
    rooted = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount --rbind /proc "$1/proc" && mount --rbind /sys "$1/sys" && shift && exec "$@"'
    check = [sys.executable, "-m", "ipvsd", "check", "--output", "json", "--root", str(image)]
    done = subprocess.run(
        ["unshare", *rooted, "--mount", "sh", "-c", script, "sh", str(image), *check],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["judged"], document["kernel"], document["state"]) == ("first_boot", RELEASE, "ready")
