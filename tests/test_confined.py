"""Hostile images: no command reveals or changes a file outside, blocks on a file, or runs out of memory."""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ipvsd.cli import main
from ipvsd.kernel import module_compression
from ipvsd.reporting.status_document import build_document
from ipvsd.state import last_good_config, repair_history, status_file
from tests.boots import make_image
from tests.fake_kernel import DEPENDS, RELEASE
from tests.samples import report
from tests.trees import make_modules, make_tree, put

pytestmark = pytest.mark.system

Output = pytest.CaptureFixture[str]

SHIPPED = [name for name in DEPENDS if name != "ip_vs_sh"]  # one module is missing, so its reason is searched
COMMANDS = (
    "check", "plan", "preflight", "config show", "status", "history", "explain net.ipv4.ip_forward", "explain ip_vs_sh",
    "explain nf_conntrack.hashsize",
)  # fmt: skip

# Files with a mark that shows whether they were read, by their path below the root, with their content.
CONFIGURATION = {
    "etc/ipvsd/ipvsd.yaml": "SECRET0: 1\n",
    "etc/ipvsd/conf.d/a.yaml": "SECRET1: 1\n",
    "run/ipvsd/conf.d/b.yaml": "SECRET2: 1\n",
}
OTHERS = {
    "etc/modprobe.d/a.conf": "install ip_vs_sh /bin/SECRET0\noptions nf_conntrack hashsize=SECRET0\n",
    "etc/modules-load.d/a.conf": "SECRET1\n",
    "etc/sysctl.d/a.conf": "net.ipv4.ip_forward = SECRET2\n",
    "proc/cmdline": "sysctl.net.ipv4.ip_forward=SECRET3\n",
    "proc/sys/net/ipv4/ip_forward": "SECRET4\n",
    "sys/module/nf_conntrack/parameters/hashsize": "SECRET5\n",
    "run/ipvsd/status.json": json.dumps({**build_document(report()), "summary": "SECRET6", "boottime": 0.0}),
    "run/ipvsd/history.jsonl": '{"name": "SECRET7"}\n',
}
both = pytest.mark.parametrize("files", [CONFIGURATION, OTHERS], ids=["configuration", "others"])


def said(capsys: Output, root: Path, *commands: str) -> str:
    for command in commands or COMMANDS:
        main([*command.split(), "--root", str(root)])
    out, err = capsys.readouterr()
    return out + err


@both
def test_each_of_these_files_would_be_revealed(tmp_path: Path, capsys: Output, files: Mapping[str, str]) -> None:
    root = make_tree(tmp_path / "image", shipped=SHIPPED)
    for path, text in files.items():
        put(root, path, text)
    found = said(capsys, root)
    assert [number for number in range(len(files)) if f"SECRET{number}" not in found] == []


@both
@pytest.mark.parametrize(("depth", "how"), [(0, "absolute"), (0, "relative"), (1, "absolute"), (2, "relative")])
def test_no_link_leads_out_of_a_root(
    tmp_path: Path, capsys: Output, files: Mapping[str, str], depth: int, how: str
) -> None:
    root = make_tree(tmp_path / "image", shipped=SHIPPED)
    for number, (path, text) in enumerate(files.items()):
        outside = put(tmp_path / "outside", path, text)
        place = root / path
        for _ in range(min(depth, path.count("/"))):  # the file itself, or a directory above it
            place, outside = place.parent, outside.parent
        if place.exists() or place.is_symlink():
            place.rename(tmp_path / f"away{number}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(outside if how == "absolute" else os.path.relpath(outside, place.parent))
    assert "SECRET" not in said(capsys, root)


@pytest.mark.parametrize("place", ["lib", "lib/modules", f"lib/modules/{RELEASE}", "boot"])
def test_no_kernel_is_found_outside(tmp_path: Path, capsys: Output, place: str) -> None:
    root = make_image(tmp_path / "image")
    make_modules(tmp_path / "outside", "9.9.9-SECRET", tuple(DEPENDS))
    put(tmp_path / "outside", "boot/vmlinuz-9.9.9-SECRET", "")
    if (root / place).exists():
        (root / place).rename(tmp_path / "away")
    outside = tmp_path / "outside" / place.replace(RELEASE, "9.9.9-SECRET")
    (root / place).symlink_to(outside)
    found = said(capsys, root)
    assert "SECRET" not in found.replace(str(outside), "")


def test_an_absolute_link_is_followed_inside(tmp_path: Path, capsys: Output) -> None:
    root = make_tree(tmp_path / "image", shipped=SHIPPED)
    for path, text in {**CONFIGURATION, **OTHERS}.items():
        put(root, f"data/{path}", text)
    for path in ("etc/ipvsd/ipvsd.yaml", "etc/modprobe.d", "etc/sysctl.d"):
        (root / path).symlink_to(f"/data/{path}")
    assert f"{root}/etc/ipvsd/ipvsd.yaml:1" in said(capsys, root, "config show")
    (root / "etc/ipvsd/ipvsd.yaml").unlink()
    found = said(capsys, root, "explain net.ipv4.ip_forward", "explain ip_vs_sh")
    assert "net.ipv4.ip_forward = SECRET2" in found
    assert "/bin/SECRET0" in found


def test_a_drop_in_is_masked_in_an_image_without_devices(tmp_path: Path, capsys: Output) -> None:
    root = make_tree(tmp_path / "image")
    put(root, "usr/lib/ipvsd/conf.d/a.yaml", "nonsense: 1\n")
    (root / "etc/ipvsd/conf.d/a.yaml").symlink_to("/dev/null")
    assert "nonsense" not in said(capsys, root, "config show")


# --- files that block or use memory -----------------------------------------------------

# Each file that a command reads from an image or a tree.
READ = (
    *CONFIGURATION, *OTHERS, "boot/grub2/grubenv", "boot/grub/grubenv", f"boot/config-{RELEASE}",
    f"boot/vmlinuz-{RELEASE}", "boot/loader/entries/a.conf", f"lib/modules/{RELEASE}/modules.dep.bin",
    f"lib/modules/{RELEASE}/modules.alias.bin", f"lib/modules/{RELEASE}/modules.builtin",
    f"lib/modules/{RELEASE}/modules.builtin.bin", f"lib/modules/{RELEASE}/modules.symbols.bin",
    f"lib/modules/{RELEASE}/modules.softdep", f"lib/modules/{RELEASE}/config",
    f"lib/modules/{RELEASE}/kernel/net/ip_vs.ko.xz", f"lib/modules/{RELEASE}/kernel/net/nf_conntrack.ko.xz",
    "etc/os-release", "etc/machine-id", "etc/default/grub", "etc/default/ufw", "etc/kernel/cmdline",
    "etc/tuned/active_profile", "etc/tuned/tuned-main.conf", "etc/firewalld/firewalld.conf",
    "etc/NetworkManager/NetworkManager.conf", "proc/config.gz", "proc/modules", "proc/net/ip_vs", "proc/net/ipv6_route",
    "proc/net/ip_tables_names", "proc/self/mountinfo", "proc/self/status", "proc/self/uid_map",
    "proc/sys/kernel/osrelease", "proc/sys/kernel/modules_disabled", "sys/module/ip_vs/initstate",
    "sys/module/compression", "sys/devices/system/cpu/online", "sys/kernel/security/lockdown", "usr/bin/kmod",
    "var/lib/ipvsd/last-good.json",
)  # fmt: skip


def fifo(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 3 << 30)


def as_large_as_allowed(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 20)


def bomb(path: Path) -> None:
    packer, zeros = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16), bytes(1 << 20)
    path.write_bytes(b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush())


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


ALL_COMMANDS = """
import io, re, resource, sys
from contextlib import redirect_stderr, redirect_stdout
from ipvsd.cli import main
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
for root in sys.argv[2:]:
    for command in sys.argv[1].split(","):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            main([*command.split(), "--root", root])
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) >> 10)
"""


def test_no_file_of_an_image_blocks_a_command_or_fills_the_memory(tmp_path: Path) -> None:
    roots = []
    for make in (fifo, sparse, as_large_as_allowed, bomb, endless):
        root = make_tree(tmp_path / make.__name__, shipped=SHIPPED)
        make(tmp_path / "one")
        for path in READ:
            # Without the index, all modules are missing and everything is examined. A kernel still exists.
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            os.link(tmp_path / "one", place, follow_symlinks=False)
        (tmp_path / "one").unlink()
        roots.append(str(root))
    done = subprocess.run(
        [sys.executable, "-c", ALL_COMMANDS, ",".join(COMMANDS), *roots],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 120  # MiB


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_file_that_unpacks_to_too_much_is_not_unpacked(pack: Callable[[bytes], bytes]) -> None:
    assert module_compression.decompress(pack(b"x" * 1000), 2000) == b"x" * 1000
    assert module_compression.decompress(pack(b"x" * 3000), 2000) is None
    assert module_compression.decompress(pack(b"x" * 1000)[:-10], 2000) is None
    assert module_compression.decompress(pack(b"x" * 1000)[:20] + bytes(20), 2000) is None


# --- writing ----------------------------------------------------------------------------


def test_the_daemon_writes_through_no_link(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "image")
    (tmp_path / "victim").write_text("untouched")
    for path in ("run/ipvsd/status.json", "var/lib/ipvsd/last-good.json"):
        for name in (path, f"{path}.new"):
            (root / name).symlink_to(tmp_path / "victim")
    status_file.write(str(root), {"state": "ready"})
    last_good_config.write(str(root), (("a", b"scheduler: sh\n"),))
    assert (tmp_path / "victim").read_text() == "untouched"
    assert last_good_config.read(str(root)) == (("a", b"scheduler: sh\n"),)


@pytest.mark.parametrize("place", ["run", "run/ipvsd", "var", "var/lib/ipvsd"])
def test_the_daemon_writes_inside_the_root(tmp_path: Path, place: str) -> None:
    root = make_tree(tmp_path / "image")
    outside = tmp_path / "outside"
    (root / place).rename(outside)
    (root / place).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    with contextlib.suppress(OSError):
        status_file.write(str(root), {"state": "ready"})
    with contextlib.suppress(OSError):
        last_good_config.write(str(root), (("a", b"scheduler: sh\n"),))
    with contextlib.suppress(OSError):
        repair_history.RepairHistory(str(root)).add([{"name": "a"}])
    assert sorted(outside.rglob("*")) == before


def test_a_root_by_another_name_is_no_other_root(capsys: Output) -> None:
    found = [(main(["status", "--root", root]), capsys.readouterr().err) for root in ("/", "//", "/usr/..")]
    assert found == found[:1] * 3
