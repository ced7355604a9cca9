"""Run systemd-sysctl, sysctl --system and systemd-modules-load on many directories, inside unshare(1).

This reads cases as JSON from standard input, and writes one answer for each. It creates a root from the machine's
programs, with an arbitrary /etc, /run, /usr/lib and /lib/modules. Each run has a network namespace, whose
/proc/sys/net has the kernel's defaults.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC = 4096, 16384
_libc = ctypes.CDLL(None, use_errno=True)

# Directories that a case fills, and that are emptied afterwards.
OWN = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
KINDS = ("sysctl.d", "modules-load.d", "modprobe.d")


def main() -> None:
    task = json.load(sys.stdin)
    make_root(task["root"], task["modules"])
    os.chroot(task["root"])
    os.chdir("/")
    answers = {"sysctl": sysctl, "modules": modules}
    json.dump([answers[case["kind"]](case) for case in task["cases"]], sys.stdout)


def make_root(root: str, modules: str) -> None:
    """Create a root with the machine's programs and an empty configuration."""
    _mount("tmpfs", root, "tmpfs", 0)
    for name in os.listdir("/"):
        if name in ("etc", "run", "usr", "tmp"):
            os.mkdir(f"{root}/{name}")
        else:
            _borrow(f"/{name}", f"{root}/{name}")
    for name in os.listdir("/usr"):
        if name not in ("lib", "local"):
            _borrow(f"/usr/{name}", f"{root}/usr/{name}")
    os.makedirs(f"{root}/usr/lib")
    os.makedirs(f"{root}/usr/local/lib")
    for name in os.listdir("/usr/lib"):
        if name not in (*KINDS, "modules"):
            _borrow(f"/usr/lib/{name}", f"{root}/usr/lib/{name}")
    for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd", "group"):
        if os.path.exists(f"/etc/{name}"):
            _borrow(f"/etc/{name}", f"{root}/etc/{name}")
    if modules:
        os.makedirs(f"{root}/usr/lib/modules")
        shutil.copytree(modules, f"{root}/usr/lib/modules/{os.uname().release}")


def _borrow(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.mkdir(target)
        _mount(source, target, "", _MS_BIND | _MS_REC)
    else:
        with open(target, "w"):
            pass
        _mount(source, target, "", _MS_BIND)


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def sysctl(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the kernel's values of the case's keys after each program, and before."""
    fill("/", case["files"])
    found: dict[str, Any] = {}
    for name, program in (
        ("systemd", ["/usr/lib/systemd/systemd-sysctl"]),
        ("procps", ["/usr/sbin/sysctl", "--system"]),
    ):
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        for link in case.get("links", ()):
            other = ("type", "veth", "peer", "name", f"{link}-")
            subprocess.run([b"ip", b"link", b"add", *(word.encode("latin-1") for word in (link, *other))], check=True)
        found["before"] = _values(case["keys"])
        done = _run(program)
        found[name] = _values(case["keys"])
        found[f"{name} said"] = done.stdout + done.stderr
        found[f"{name} code"] = done.returncode
    _empty()
    return found


def modules(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the output of systemd-modules-load for a case."""
    fill("/", case["files"])
    done = _run(
        ["/usr/lib/systemd/systemd-modules-load"], SYSTEMD_LOG_LEVEL="debug", SYSTEMD_PROC_CMDLINE=case["cmdline"]
    )
    _empty()
    return {"said": done.stderr, "code": done.returncode}


def _run(command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin", "SYSTEMD_LOG_TARGET": "console", "LC_ALL": "C", **environment},
    )


def _values(keys: Sequence[str]) -> Mapping[str, Optional[str]]:
    found: dict[str, Optional[str]] = {}
    for key in keys:
        try:
            with open(f"/proc/sys/{key}".encode("latin-1")) as file:
                found[key] = " ".join(file.read().split())
        except OSError:
            found[key] = None
    return found


def fill(root: str, files: Sequence[Sequence[str]]) -> None:
    """Create the files of a case below a root: (path, content). `->` begins a link, and `/` means a directory."""
    for path, content in files:
        place = os.path.join(root, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if content.startswith("->"):
            os.symlink(content[2:], place)
        elif content == "/":
            os.mkdir(place)
        else:
            with open(place, "wb") as file:
                file.write(content.encode("latin-1"))


def _empty() -> None:
    for place in OWN:
        for kind in KINDS:
            shutil.rmtree(f"/{place}/{kind}", ignore_errors=True)
    for path in ("/etc/sysctl.conf", "/etc/modules"):
        if os.path.lexists(path):
            os.unlink(path)


if __name__ == "__main__":
    main()
