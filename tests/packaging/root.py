"""A separate root directory, in which the machine's rpm works."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

LIBRARIES = ("pyroute2", "sdnotify", "watchdog", "prometheus_client")
# A database that rpm creates, and paths that differ in every run.
_NOT_LOOKED_AT = "./dev ./var/lib/rpm ./var/cache ./tmp".split()

# The tarball lacks the null device, which scriptlets write to.
_INSIDE = 'mount --rbind /dev "$ROOT/dev"; '
_PROC = 'mount --rbind /proc "$ROOT/proc"; '
_WITHOUT_ROOT = ("--map-root-user", "--map-auto")


class Root:
    """Runs commands as root of a directory tree, for any user who runs the tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "root"

    def unpack(self, archive: Path) -> None:
        self.directory.mkdir()
        self.directory.parent.chmod(0o755)
        self._run(f"tar -xpf {archive} -C $ROOT --numeric-owner --exclude='./dev/*'")

    def remove(self) -> None:
        self._run("rm -rf --one-file-system $ROOT/*")

    def put(self, path: str, text: str) -> None:
        self._run(f"mkdir -p $ROOT/{os.path.dirname(path)} && cat > $ROOT/{path}", text)

    def copy(self, source: Path, path: str) -> None:
        self._run(f"cp {source} $ROOT/{path}")

    def copy_directory(self, source: Path, path: str) -> None:
        self._run(f"test ! -e $ROOT/{path} && cp -R {source} $ROOT/{path}")

    def pack(self, archive: Path) -> None:
        self._run(f"tar -cpf {archive} -C $ROOT --numeric-owner .")

    def run(
        self, command: str, check: bool = True, given: str = "", proc: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command with this as its root directory. `proc` mounts the processes of the machine."""
        return self._run(
            f'{_INSIDE} {_PROC if proc else ""} exec chroot "$ROOT" /bin/sh -c "$INSIDE"', given, check, command
        )

    def imports(self, modules: str, *path: str) -> bool:
        """Return whether Python can import modules in the root, also from these directories."""
        code = f"import sys; sys.path[1:1] = {path!r}; import {modules}"
        return self.run("python3 -IB -", check=False, given=code).returncode == 0

    def rpm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run rpm on the root. Its database lacks the dependencies on Debian."""
        options = "" if arguments[0] in ("-q", "-V") else "--nodeps"
        command = f"rpm --root $ROOT --dbpath /var/lib/rpm {' '.join(arguments)} {options}"
        done = self._run(f"{_INSIDE} exec {command}", check=check)
        # At each call, Debian's rpm warns that it should not be used.
        done.stderr = "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("rpm: "))
        return done

    def paths(self) -> frozenset[str]:
        """Return every path, except those that the package need not remove."""
        pruned = " -o ".join(f"-path {path}" for path in _NOT_LOOKED_AT)
        return frozenset(self._run(f"cd $ROOT && find . \\( {pruned} \\) -prune -o -print").stdout.splitlines())

    def _run(
        self, script: str, given: str = "", check: bool = True, inside: str = ""
    ) -> subprocess.CompletedProcess[str]:
        namespace = [*_namespace(), *(() if os.geteuid() == 0 else _WITHOUT_ROOT)]
        command = [*namespace, "/bin/sh", "-euc", script]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOT": str(self.directory), "LC_ALL": "C.UTF-8"}
        environment["INSIDE"] = inside
        done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done


@functools.cache
def _namespace() -> tuple[str, ...]:
    """Return the command prefix that creates a mount namespace."""
    private = ("unshare", "--mount", "--propagation", "private")
    # In a chroot whose root is not a mount point, mounts cannot be made private.
    works = os.geteuid() != 0 or subprocess.run((*private, "true"), capture_output=True, check=False).returncode == 0
    return private if works else (*private[:-1], "unchanged")
