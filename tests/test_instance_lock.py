"""One daemon for each root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvsd import cli
from ipvsd.runtime.instance_lock import PATH, hold, holder
from tests.service import REPOSITORY, STATUS, Service, Until
from tests.trees import put

pytestmark = pytest.mark.system


def another(root: str) -> tuple[int, str]:
    """Run a daemon that is not asked to stop, and return its exit code and its log."""
    command = [sys.executable, "-m", "ipvsd", "run", "--root", root]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stderr


def test_a_second_daemon_names_the_first_and_leaves_its_status_alone(service: Service, until: Until) -> None:
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    pid, root = service.process.pid, f"{service.tree}/."
    told = f"ipvsd: error: cannot run the daemon: process {pid} is already running the daemon (lock: {root}/{PATH})\n"
    assert another(root) == (os.EX_TEMPFAIL, told)
    assert service.status()["state"] == "ready"


def test_a_lock_ends_with_its_process(service: Service) -> None:
    service.ready()
    service.process.kill()
    service.process.wait()
    service.ready()
    assert service.stop()[0] == 0
    assert (service.tree / PATH).read_text() == f"{service.process.pid}\n"


def test_temporary_files_of_a_killed_daemon_are_removed_at_once(tmp_path: Path) -> None:
    left = [put(tmp_path, f"{place}.0123456789ab.new", "") for place in ("run/ipvsd/.status.json", "var/lib/ipvsd/.x")]
    drop_in = put(tmp_path, "run/ipvsd/conf.d/10.yaml", "")
    with hold(str(tmp_path)):
        assert ([file.exists() for file in left], drop_in.exists()) == ([False, False], True)
        used = put(tmp_path, "run/ipvsd/.status.json.0123456789ab.new", "")
        with hold(str(tmp_path)) as second:
            assert not second
        assert used.exists()


def test_apply_works_beside_a_daemon(service: Service) -> None:
    service.ready()
    assert cli.main(["apply", "--persist", "--root", str(service.tree)]) == 0
    assert (service.tree / "etc/sysctl.d/90-ipvsd.conf").exists()


def test_other_users_cannot_open_the_lock(tmp_path: Path) -> None:
    lock = put(tmp_path, PATH, "12345678\n")
    lock.chmod(0o666)
    with hold(str(tmp_path)) as ours:
        assert ours
        assert lock.stat().st_mode & 0o777 == 0o600
        assert lock.read_text() == f"{os.getpid()}\n"


def test_two_roots_have_two_locks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with hold(str(tmp_path / "a")) as a, hold(str(tmp_path / "b")) as b:
        assert (a, b) == (True, True)


@pytest.mark.parametrize("content", ["", "soon\n", "9" * 40])
def test_a_holder_that_left_no_number_is_reported_too(
    tmp_path: Path, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with hold(str(tmp_path)):
        (tmp_path / PATH).write_text(content)
        with hold(str(tmp_path)) as ours:
            assert not ours
    assert "process" in capfd.readouterr().err


def _loop(lock: Path) -> None:
    lock.parent.rmdir()
    lock.parent.symlink_to("ipvsd")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Path.mkdir, id="directory"),
        pytest.param(os.mkfifo, id="FIFO"),
        pytest.param(lambda lock: lock.symlink_to(lock.parents[2] / "elsewhere"), id="link"),
        pytest.param(_loop, id="loop"),
    ],
)
def test_a_lock_that_cannot_be_made_stops_nothing_and_is_reported(
    tmp_path: Path, make: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / PATH).parent.mkdir(parents=True)
    make(tmp_path / PATH)
    with hold(str(tmp_path)) as ours:
        assert ours
    assert not (tmp_path / "elsewhere").exists()
    assert capfd.readouterr().err.startswith(f"ipvsd: warning: cannot lock {PATH}: ")


def test_a_holder_that_cannot_be_read_still_holds_the_lock(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "wb") as unreadable:
        assert holder(unreadable.fileno()) == "another process"
