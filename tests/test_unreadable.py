"""An item that cannot be read for lack of descriptors is not absent, and causes no verdict and remedy for absence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvsd.boot import drop_in_files, installed_kernels, next_boot
from ipvsd.cli import main
from ipvsd.config import config_files
from ipvsd.config.parser import ConfigError, parse
from ipvsd.conflicts.file_tree import PLACES, FileTree
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.load_blockers import LoadBlockers
from ipvsd.kernel.module_tree import Index, ModuleTree, modprobe_d_stamps
from ipvsd.model.report import NoteKind, Report
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.reconcile.rounds import reconcile
from ipvsd.reporting.notices import Notices
from ipvsd.runtime.rootfs import MAX_BYTES, UnreadableError
from ipvsd.state import last_good_config
from tests.boots import make_image
from tests.fake_kernel import DEPENDS, RELEASE
from tests.samples import report
from tests.scarce import few_descriptors
from tests.trees import LIVE, make_tree, put

Output = pytest.CaptureFixture[str]
CONFIG = parse([])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "root", shipped=[name for name in DEPENDS if name != "ip_vs_sh"])
    put(root, "etc/modprobe.d/a.conf", "blacklist ip_vs_rr\n")
    return root


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda root: ModuleTree(root, RELEASE), id="module tree"),
        pytest.param(lambda root: Index(root, RELEASE).update(LIVE), id="index"),
        pytest.param(modprobe_d_stamps, id="modprobe.d"),
        pytest.param(lambda root: LinuxHost(str(root)).expand(["net.ipv4.conf.*.arp_ignore"]), id="pattern"),
        pytest.param(installed_kernels.releases, id="installed kernels"),
        pytest.param(lambda root: installed_kernels.assess_all(root, CONFIG), id="survey"),
        pytest.param(lambda root: drop_in_files.find_outdated(root, {drop_in_files.SYSCTL: ""}), id="persisted files"),
        pytest.param(lambda root: drop_in_files.write(root, {drop_in_files.SYSCTL: ""}), id="files to persist"),
    ],
)
def test_each_command_reports_a_read_error(tree: Path, ask: Callable[[str], object]) -> None:
    ask(str(tree))
    for left in range(2):
        with few_descriptors(left), pytest.raises(UnreadableError, match="Too many open files"):
            ask(str(tree))


def test_with_any_number_of_descriptors_the_result_is_correct_or_unknown(tree: Path) -> None:
    def explained() -> object:
        kernel = LinuxHost(str(tree), release=RELEASE).kernel(LIVE)
        return LoadBlockers(str(tree), running=False).explain(kernel, ("ip_vs_sh", "ip_vs_rr"), ())

    right, answers = explained(), 0
    for left in range(8):
        with few_descriptors(left):
            try:
                found = explained()
            except UnreadableError:
                continue
        assert found == right
        answers += 1
    assert answers


def test_the_index_that_was_read_stays(tree: Path) -> None:
    index = Index(str(tree), RELEASE).update(LIVE)
    before = (index.readable, index.loadable, index.built_in)
    put(tree, f"lib/modules/{RELEASE}/modules.builtin", "")  # this causes another read
    for left in range(3):
        with few_descriptors(left), contextlib.suppress(UnreadableError):
            index.update(LIVE)
        assert (index.readable, index.loadable, index.built_in) == before


def test_a_configuration_that_cannot_be_read_is_refused(tree: Path) -> None:
    put(tree, config_files.MAIN, "scheduler: sh\n")
    with few_descriptors(), pytest.raises(ConfigError, match="Too many open files"):
        config_files.read(str(tree))


def test_the_last_good_configuration_is_not_taken_for_missing(tree: Path) -> None:
    last_good_config.write(str(tree), (("f", b"scheduler: sh\n"),))
    with few_descriptors(), pytest.raises(UnreadableError, match="Too many open files"):
        last_good_config.read(str(tree))


def test_an_inventory_that_fails_keeps_the_former_one_and_is_logged_once(tree: Path, capsys: Output) -> None:
    inventory = installed_kernels.KernelInventory(str(tree))
    inventory.update(CONFIG)
    before = inventory.kernels
    assert [kernel.release for kernel in before] == [RELEASE]
    capsys.readouterr()
    for _ in range(3):
        with few_descriptors():
            inventory.update(CONFIG)
        assert inventory.kernels == before
    assert capsys.readouterr().err.count("cannot check the installed kernels: cannot read ") == 1
    put(tree, "lib/modules/9.9.9/modules.dep", "")
    inventory.update(CONFIG)
    assert [kernel.release for kernel in inventory.kernels] == [RELEASE, "9.9.9"]


def test_a_notice_reports_an_unreadable_file(tree: Path) -> None:
    host = LinuxHost(str(tree))
    done = reconcile(host, CONFIG, {}, lambda: 0.0)
    notices = Notices(str(tree), host)
    with few_descriptors():
        notices.update(CONFIG, done)
    assert [note for note in notices.notes if "Too many open files" in note] == [
        f"cannot read {tree}/proc/net/ipv6_route: Too many open files",
        f"cannot read {tree}/{drop_in_files.MODULES_LOAD}: Too many open files",
    ]


def test_the_persisted_files_are_current_outdated_or_unknown(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    host = LinuxHost(str(tree))
    done, notices = reconcile(host, CONFIG, {}, lambda: 0.0), Notices(str(tree), host)

    def complete() -> Report:
        notices.update(CONFIG, done)
        return notices.complete(report())

    assert complete().persisted_files_current is None
    main(["apply", "--persist", "--root", str(tree)])
    assert complete().persisted_files_current is True
    with few_descriptors():
        unknown = complete()
    assert (unknown.persisted_files_current, NoteKind.CHECK_FAILED in unknown.note_kinds) == (None, True)
    put(tree, drop_in_files.SYSCTL, "net.ipv4.ip_forward = 0\n")
    outdated = complete()
    assert (outdated.persisted_files_current, len(outdated.notes), outdated.note_kinds) == (False, 1, frozenset())
    assert outdated.notes == notices.notes


def test_an_unreadable_file_of_another_program_is_reported(tree: Path) -> None:
    kernel, plan = observe_and_plan(LinuxHost(str(tree)), CONFIG)
    with few_descriptors():
        there = FileTree(str(tree))
        assert there.read("etc/sysctl.conf") is None
        assert (there.names("etc/sysctl.d"), there.masked("x.service")) == ((), False)
    units = [f"{place}/systemd/system/x.service" for place in PLACES]
    files = ("etc/sysctl.conf", "etc/sysctl.d", *units)
    assert dict(there.unreadable_files) == dict.fromkeys((f"{tree}/{file}" for file in files), "Too many open files")
    with few_descriptors(), pytest.raises(UnreadableError):
        next_boot.predict(str(tree), kernel, next_boot.names_of(plan))


def test_an_unreadable_file_is_reported_with_the_prediction_of_the_next_boot(tree: Path, capsys: Output) -> None:
    put(tree, "etc/sysctl.d/x.conf", "x" * (MAX_BYTES + 1))
    main(["check", "--root", str(tree)])
    problem = f"cannot read {tree}/etc/sysctl.d/x.conf: the file is larger than"
    assert problem in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["check", "plan", "preflight", "apply --persist"])
def test_a_command_that_cannot_read_an_image_exits_with_unknown(tmp_path: Path, capsys: Output, command: str) -> None:
    root = make_image(tmp_path / "image")
    (root / "etc/ipvsd").rename(root / "etc/none")
    for output in ("text", "json"):
        arguments = [*command.split(), "--root", str(root), "--output", output]
        main(arguments)  # loads the late imports
        capsys.readouterr()
        with few_descriptors(left=1):
            code = main(arguments)
        assert code in (2, 78)
        assert "Too many open files" in capsys.readouterr().err


UNREADABLE = "/proc/self/mem"  # a regular file, and no program can read its beginning


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize(
    "command",
    [
        "check", "plan", "preflight", "apply --persist", "explain ip_vs", "doctor", "config show",
        f"config validate {UNREADABLE}",
    ],
)  # fmt: skip
def test_a_command_that_cannot_read_its_configuration_exits_with_unknown(
    tree: Path, capsys: Output, command: str, output: str
) -> None:
    given = [] if UNREADABLE in command else ["--config", UNREADABLE]
    assert main([*command.split(), *given, "--root", str(tree), "--output", output]) == 2
    assert capsys.readouterr().err == f"{UNREADABLE}: cannot read the file: Input/output error\n"
