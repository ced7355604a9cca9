"""Every installed kernel is judged by its own tree before it is booted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ipvsd.boot import installed_kernels
from ipvsd.config.schema import Config
from ipvsd.decide import health
from ipvsd.model.verdicts import ModuleVerdict
from tests.asking import run
from tests.configured import config
from tests.fake_kernel import DEPENDS, RELEASE
from tests.service import MAIN
from tests.trees import make_modules, make_tree, put

NEW = "6.12.9-cloud-amd64"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A node that runs one kernel, and boots another one without ip_vs_sh next."""
    root = make_tree(tmp_path / "root")
    make_modules(root, NEW, [name for name in DEPENDS if name != "ip_vs_sh"], ("ipv6",))
    (root / "vmlinuz").symlink_to(f"boot/vmlinuz-{NEW}")
    return root


def test_kernels_with_and_without_a_module_are_distinguished(tree: Path) -> None:
    old, new = installed_kernels.assess_all(str(tree), Config())
    assert (old.release, old.running, old.boots_next, health.could_be_ready(old)) == (RELEASE, True, False, True)
    assert (new.release, new.running, new.boots_next, health.could_be_ready(new)) == (NEW, False, True, False)
    (found,) = installed_kernels.unobtainable_modules(new)
    assert (found.name, found.verdict, NEW in found.remedy) == ("ip_vs_sh", ModuleVerdict.ABSENT, True)


def test_an_image_has_no_kernel_that_runs(tree: Path) -> None:
    shutil.rmtree(tree / "proc")
    assert [kernel.running for kernel in installed_kernels.assess_all(str(tree), Config())] == [False, False]


def test_a_release_of_any_bytes_is_the_running_one(tree: Path) -> None:
    release = os.fsdecode(b"6.1.0-\xff\x1b")
    (tree / "lib/modules" / RELEASE).rename(tree / "lib/modules" / release)
    (tree / "proc/sys/kernel/osrelease").write_bytes(os.fsencode(release) + b"\n")
    old = next(kernel for kernel in installed_kernels.assess_all(str(tree), Config()) if kernel.release != NEW)
    assert (old.release, old.running, health.could_be_ready(old)) == (release, True, True)


@pytest.mark.parametrize(
    ("path", "text", "ready"),
    [
        pytest.param("proc/modules", "", [True, False], id="unloaded modules can be loaded"),
        pytest.param("proc/sys/kernel/modules_disabled", "1\n", [True, False], id="restrictions are of this boot"),
        pytest.param("etc/modprobe.d/cis.conf", "blacklist ip_vs_rr\n", [False, False], id="a blacklist is of every"),
        pytest.param(MAIN, "profiles: [lvs-full]\n", [True, True], id="an optional scheduler is no problem"),
    ],
)
def test_what_decides_whether_a_kernel_could_be_ready(tree: Path, path: str, text: str, ready: list[bool]) -> None:
    put(tree, path, text)
    made = config(text) if path == MAIN else Config()
    assert list(map(health.could_be_ready, installed_kernels.assess_all(str(tree), made))) == ready


@pytest.mark.parametrize(
    ("make", "release"),
    [
        pytest.param(lambda root: (root / "vmlinuz").symlink_to(f"boot/vmlinuz-{NEW}"), NEW, id="Debian's link"),
        pytest.param(lambda root: (root / "boot/vmlinuz").symlink_to(f"vmlinuz-{RELEASE}"), RELEASE, id="Ubuntu's"),
        pytest.param(lambda root: put(root, "boot/grub2/grubenv", f"saved_entry=0a1b-{NEW}\n####"), NEW, id="grubby"),
        pytest.param(lambda root: put(root, "boot/grub2/grubenv", "saved_entry=0\n"), "", id="a number"),
        pytest.param(lambda root: (root / "vmlinuz").symlink_to("boot/vmlinuz-5.4"), "", id="a link to what is gone"),
        pytest.param(lambda root: None, "", id="nothing"),  # noqa: ARG005
    ],
)
def test_which_kernel_the_next_boot_takes(tmp_path: Path, make: object, release: str) -> None:
    (tmp_path / "boot").mkdir()
    make(tmp_path)  # type: ignore[operator]
    assert installed_kernels.next_release(str(tmp_path), (RELEASE, NEW)) == release


def test_an_only_kernel_is_the_next(tmp_path: Path) -> None:
    assert installed_kernels.next_release(str(tmp_path), (NEW,)) == NEW


def test_releases_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("6.1.0-9-amd64", "6.12.0", "5.10.0-30-amd64", "6.1.0-10-amd64", "6.1.0-9-cloud-amd64"):
        put(tmp_path, f"lib/modules/{name}/modules.dep", "")
    (tmp_path / "lib/modules/5.4.0/updates/dkms").mkdir(parents=True)  # leftovers of a purged kernel
    found = installed_kernels.releases(str(tmp_path))
    assert found == ("5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-9-cloud-amd64", "6.1.0-10-amd64", "6.12.0")


def test_a_reboot_is_required_when_another_kernel_is_next_or_the_modules_are_gone(tree: Path) -> None:
    kernels = installed_kernels.assess_all(str(tree), Config())
    assert installed_kernels.reboot_required(kernels, RELEASE)
    (tree / "vmlinuz").unlink()
    kernels = installed_kernels.assess_all(str(tree), Config())
    assert not installed_kernels.reboot_required(kernels, RELEASE)
    assert installed_kernels.reboot_required(kernels, "5.4.0")
    assert not installed_kernels.reboot_required((), RELEASE)


def test_the_inventory_is_updated_when_a_kernel_is_installed(tree: Path) -> None:
    inventory = installed_kernels.KernelInventory(str(tree))
    inventory.update(Config())
    before = inventory.kernels
    inventory.update(Config())
    assert inventory.kernels is before
    shutil.copytree(tree / "lib/modules" / RELEASE, tree / "lib/modules/6.13.0")
    inventory.update(Config())
    assert [kernel.release for kernel in inventory.kernels] == [RELEASE, NEW, "6.13.0"]


# --- the command ------------------------------------------------------------------------


def test_the_command_prints_each_kernel_with_its_remedy(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "preflight", "--root", tree)
    assert code == 1
    assert out.splitlines()[:3] == [
        f"kernel {RELEASE} (running): ready",
        f"kernel {NEW} (next boot): not ready",
        f"  ! ip_vs_sh absent: /lib/modules/{NEW}/modules.dep does not list",
    ]
    assert f"-> run 'chroot {tree} apt install --reinstall linux-image-{NEW}'" in " ".join(out.split())
    assert max(len(line) for line in out.splitlines() if str(tree) not in line) <= 80


def test_the_command_in_one_line_for_one_kernel(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "preflight", "--root", tree, "--kernel", NEW, "--brief")
    assert (code, out) == (1, f"kernel {NEW} (next boot): not ready; ip_vs_sh absent\n")
    assert run(capsys, "preflight", "--root", tree, "--kernel", RELEASE)[0] == 0


def test_in_one_line_as_many_problems_are_named_as_fit(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tree, "etc/modprobe.d/x.conf", "install nf_conntrack /bin/true\n")
    code, out, _ = run(capsys, "preflight", "--root", tree, "--brief")
    first, second = out.splitlines()
    assert (code, max(map(len, (first, second))) <= 80) == (1, True)
    assert first.startswith(f"kernel {RELEASE} (running): not ready; ip_vs overridden and ")
    (tree / "lib/modules" / RELEASE).rename(tree / "lib/modules" / f"{RELEASE}-{'x' * 30}")
    _, out, _ = run(capsys, "preflight", "--root", tree, "--brief", "--kernel", f"{RELEASE}-{'x' * 30}")
    assert out.endswith(": not ready; 7 modules unavailable\n")


def test_the_command_as_json(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "preflight", "--root", tree, "--output", "json")
    document = json.loads(out)
    assert (code, document["reboot_required"]) == (1, True)
    shown = [(item["release"], item["running"], item["boots_next"], item["ready"]) for item in document["kernels"]]
    assert shown == [(RELEASE, True, False, True), (NEW, False, True, False)]
    assert {found["verdict"] for found in document["kernels"][0]["modules"]} == {"loadable"}


def test_without_a_kernel_the_result_is_unknown(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    told = f"ipvsd: cannot check the kernels: missing kernel in {tmp_path}/empty/lib/modules (install a kernel, or use "
    assert run(capsys, "preflight", "--root", tmp_path / "empty") == (2, "", f"{told}--root)\n")
    told = f"ipvsd: cannot check kernel 5.4: unknown kernel (not in {tree}/lib/modules; install the kernel, or use "
    assert run(capsys, "preflight", "--root", tree, "--kernel", "5.4") == (2, "", f"{told}--root)\n")
