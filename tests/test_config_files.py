from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvsd.config import config_files
from ipvsd.config.parser import ConfigError
from ipvsd.config.yaml_tree import MAX_BYTES
from ipvsd.runtime import rootfs
from ipvsd.state import last_good_config
from ipvsd.state.stored_json import UnusableError
from tests.trees import put

MAIN = "etc/ipvsd/ipvsd.yaml"
KEPT = "var/lib/ipvsd/last-good.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for directory in ("etc/ipvsd/conf.d", "run/ipvsd/conf.d", "usr/lib/ipvsd/conf.d", "var/lib/ipvsd"):
        (tmp_path / directory).mkdir(parents=True)
    return tmp_path


def names(root: Path) -> list[str]:
    return [os.path.relpath(name, root) for name, _ in config_files.read(str(root))]


def refusal(root: Path, only: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        config_files.read(str(root), str(only) if only else None)
    (error,) = caught.value.errors
    return error


def test_without_files_or_directories_there_is_nothing(root: Path) -> None:
    assert config_files.read(str(root)) == config_files.read(str(root / "nowhere")) == ()


def test_the_main_file_comes_first_and_the_drop_ins_follow_by_name(root: Path) -> None:
    files = [
        MAIN,
        *(f"{name}.yaml" for name in ("usr/lib/ipvsd/conf.d/10", "etc/ipvsd/conf.d/20", "run/ipvsd/conf.d/30")),
    ]
    for file in reversed(files):
        put(root, file, "")
    assert names(root) == files


@pytest.mark.parametrize(
    ("above", "below"), [("etc", "run"), ("etc", "usr/lib"), ("run", "usr/lib")], ids=lambda value: value
)
def test_a_drop_in_masks_one_of_the_same_name_below(root: Path, above: str, below: str) -> None:
    put(root, f"{above}/ipvsd/conf.d/10-a.yaml", "scheduler: sh")
    put(root, f"{below}/ipvsd/conf.d/10-a.yaml", "scheduler: wlc")
    assert names(root) == [f"{above}/ipvsd/conf.d/10-a.yaml"]


@pytest.mark.parametrize("where", ["etc/ipvsd/conf.d/10-a.yaml", MAIN])
def test_a_link_to_dev_null_sets_nothing(root: Path, where: str) -> None:
    put(root, "usr/lib/ipvsd/conf.d/10-a.yaml", "scheduler: wlc")
    (root / where).symlink_to("/dev/null")
    assert names(root) == ([] if where != MAIN else ["usr/lib/ipvsd/conf.d/10-a.yaml"])


@pytest.mark.parametrize("name", ["a.yml", "a.yaml~", ".a.yaml", "a.yaml.dpkg-new", ".a.yaml.swp", "README"])
def test_a_file_without_the_yaml_suffix_is_not_a_drop_in(root: Path, name: str) -> None:
    put(root, f"etc/ipvsd/conf.d/{name}", "nonsense: [")
    assert config_files.read(str(root)) == ()


def test_one_requested_file_is_the_only_one(root: Path) -> None:
    put(root, MAIN, "nonsense: [")
    file = put(root, "else.yaml", "scheduler: sh")
    assert config_files.load(str(root), str(file)).scheduler == "sh"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda file: file.symlink_to("x"), "cannot read the file: No such file or directory", id="link"),
        pytest.param(os.mkfifo, "not a regular file", id="FIFO"),
        pytest.param(Path.mkdir, "not a regular file", id="directory"),
        pytest.param(lambda file: file.symlink_to("/dev/zero"), "not a regular file", id="device"),
        pytest.param(lambda file: os.truncate(put(file.parent, file.name, ""), 1 << 40),
                     f"the file is larger than {MAX_BYTES} bytes", id="larger than a mebibyte"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_without_blocking(
    root: Path, make: Callable[[Path], object], problem: str
) -> None:
    file = root / "else.yaml"
    make(file)
    assert refusal(root, file) == f"{file}: {problem}"
    if problem != "not a regular file" or not file.is_symlink():  # /dev/zero is outside this root
        make(root / MAIN)
        assert refusal(root) == f"{root / MAIN}: {problem}"


def test_a_missing_requested_file_is_an_error(root: Path) -> None:
    assert refusal(root, root / "else.yaml") == f"{root}/else.yaml: cannot read the file: No such file or directory"


def test_a_file_that_is_removed_meanwhile_is_ignored_and_masks_nothing(root: Path) -> None:
    seen: list[config_files.Files] = []
    for number in range(100):
        put(root, f"usr/lib/ipvsd/conf.d/{number:03}.yaml", "scheduler: rr")
    for _ in range(30):
        above = put(root, "etc/ipvsd/conf.d/099.yaml", "scheduler: sh")
        reader = threading.Thread(target=lambda: seen.append(config_files.read(str(root))))
        reader.start()
        above.unlink()
        reader.join()
    assert [len(files) for files in seen] == [100] * 30
    assert config_files.read(str(root))[-1] == (f"{root}/usr/lib/ipvsd/conf.d/099.yaml", b"scheduler: rr")


def test_a_drop_in_directory_that_is_a_file_is_an_error(root: Path) -> None:
    (root / "run/ipvsd/conf.d").rmdir()
    put(root, "run/ipvsd/conf.d", "")
    assert refusal(root) == f"{root}/run/ipvsd/conf.d: cannot list the directory: Not a directory"


def test_one_bad_file_does_not_hide_another(root: Path) -> None:
    os.mkfifo(root / MAIN)
    os.mkfifo(root / "etc/ipvsd/conf.d/10-a.yaml")
    with pytest.raises(ConfigError) as caught:
        config_files.read(str(root))
    assert len(caught.value.errors) == 2


def test_below_another_root_anybodys_file_is_read(root: Path) -> None:
    put(root, MAIN, "scheduler: sh").chmod(0o666)
    assert config_files.load(str(root)).scheduler == "sh"


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "trusted"),
    [
        pytest.param(0o644, 0, 0, True, id="root's alone"),
        pytest.param(0o664, 0, 0, True, id="group root may write"),
        pytest.param(0o664, 0, 4, False, id="another group may write"),
        pytest.param(0o646, 0, 0, False, id="everyone may write"),
        pytest.param(0o644, 1, 0, False, id="another owner"),
        pytest.param(0o640, 0, 4, True, id="another group may read"),
    ],
)
def test_on_the_systems_own_paths_only_root_may_write(mode: int, uid: int, gid: int, trusted: bool) -> None:
    status = os.stat_result((0o100000 | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
    assert rootfs.trusted(status) is trusted


@pytest.mark.parametrize("mode", ["0644", "go-w"])
def test_the_remedy_names_the_file_and_keeps_a_private_key_private(tmp_path: Path, mode: str) -> None:
    put(tmp_path, "a key", "").chmod(0o666)
    remedy = f"run 'chown root:root '/etc/a key'' and 'chmod {mode} '/etc/a key''"
    with pytest.raises(config_files.UntrustedError) as found:
        config_files.open_trusted(str(tmp_path), "a key", "/etc/a key", True, mode).__enter__()
    assert str(found.value) == f"users other than root can write the file ({remedy})"


# --- the last good configuration --------------------------------------------------------

GOOD = (("/etc/ipvsd/ipvsd.yaml", b"scheduler: sh\n"), ("/etc/ipvsd/conf.d/a.yaml", b"interval: 5s # \xc3\xa9\n"))


def test_the_last_good_files_are_remembered_in_one_private_file(root: Path) -> None:
    assert last_good_config.read(str(root)) is None
    for files in (GOOD, GOOD[:1], ()):
        last_good_config.write(str(root), files)
        assert last_good_config.read(str(root)) == files
    assert os.listdir(root / "var/lib/ipvsd") == ["last-good.json"]
    assert (root / KEPT).stat().st_mode & 0o777 == 0o600


def test_storing_the_same_again_writes_nothing(root: Path) -> None:
    last_good_config.write(str(root), GOOD)
    before = (root / KEPT).stat().st_ino
    last_good_config.write(str(root), GOOD)
    assert (root / KEPT).stat().st_ino == before


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"), pytest.param("[[", id="cut off"), pytest.param("null", id="null"),
        pytest.param("1", id="number"), pytest.param('["a"]', id="no pairs"),
        pytest.param('[["a", "scheduler: [1]"]]', id="bad configuration"),
        pytest.param('[["a", "x", "y"]]', id="triple"), pytest.param("[" * 100_000, id="deep"),
        pytest.param("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), id="not UTF-8"),
        pytest.param(json.dumps([["a", "\ud9ff"]]), id="lone surrogate"),
    ],
)  # fmt: skip
def test_a_damaged_last_good_configuration_is_reported(root: Path, text: str) -> None:
    (root / KEPT).write_bytes(text.encode("latin-1"))
    with pytest.raises(UnusableError, match="damaged"):
        last_good_config.read(str(root))
