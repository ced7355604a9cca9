"""Compare ipvsd with modprobe on generated module trees and modprobe.d files.

`modprobe -n -v -a` prints the steps for each name without executing them. Known differences of a dry run, by
design:
- It does not open the files that it would insert, so a missing file is not a failure. It does search the files of
  dependencies, and ignores all of them if one is missing. This is compared.
- It inserts nothing, so a module that is needed twice is listed twice. ipvsd's steps are the same.
- It runs no command, so this test does not judge the effect of an `install` line.
- This test does not judge whether the kernel accepts a module (see tests/vm).
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ipvsd.kernel.load_blockers import read_settings
from ipvsd.kernel.module_tree import ModuleTree
from ipvsd.modprobe import load_steps
from tests.elf import module, packed
from tests.trees import put

BREADTH = int(os.environ.get("IPVSD_BREADTH", "25"))
BATCH = 25  # trees of one test: few tests to collect, and a failure is still easy to find
RELEASE = "6.1.0-50-cloud-amd64"
MARK = "zz_between"  # a module that matches no pattern, and separates the output for each name
PROGRAMS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
PLACES = ("etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "lib/modprobe.d")
# A separate kernel command line in a mount namespace. Without root, this requires a user namespace.
NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
UNDER = 'mount --bind "$1" /proc/cmdline && shift && exec "$@"'
NAMES = ("m_a", "m-b", "m_c-d", "m_e", "n-f", "n_g", "h", "ip_vs", "ip_vs_rr", "nf_conntrack")
OTHERS = ("b_one", "b-two", "gone", "net-pf-10", "my_alias", "m_x1", "off")
PATTERNS = (
    "m_*", "m?a", "m[-_]b", "[mn]_[a-g]", "m_[!a]", "*_rr", "ip_vs*", "h", "m_[z-a]", "m\\\\_a", "n[", "net_pf_[0-9]*",
)  # fmt: skip
SUFFIXES = (".ko", ".ko", ".ko.xz", ".ko.zst", ".ko.gz")
COMMANDS = (
    "/bin/true", "/bin/false", " true", "modprobe -i $CMDLINE_OPTS ip_vs", "echo a\\\\b",
    "logger x; /sbin/modprobe -i h", "sh -c 'true # not' ", ":",
)  # fmt: skip
OPTIONS = ("a=1", "hashsize = 262144", "b", 'c="d e"', "\ta=1\t\tb=2", " x=y ", "a-b=c-d", "#x")


class Generated:
    """A root with a module tree and modprobe.d files, all derived from one seed."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.tree = root / "lib/modules" / RELEASE
        self.command_line = Path("/proc/cmdline").read_text()
        self.namespace = False
        # Broken links or directories, but not both: libkmod ignores that fstatat() fails for a link, and then uses
        # the type of the previous file (conf_files_filter_out()).
        self.dangling = seed % 2 == 1
        self._make_modules()
        self._make_configuration()
        if seed % 5 == 0:
            self._make_command_line()

    # --- the module tree ----------------------------------------------------------------

    def _make_modules(self) -> None:
        random, made = self.random, list[str]()
        self._module(MARK, [])
        for name in random.sample(NAMES, random.randint(2, 8)):
            self._module(name, random.sample(made, random.randint(0, min(3, len(made)))))
            made.append(name)
        if random.random() < 0.5:
            built_in = random.sample([*OTHERS[:3], *NAMES], random.randint(1, 3))
            put(self.tree, "modules.builtin", "".join(f"kernel/b/{name}.ko\n" for name in built_in))
            information = "".join(f"{name}.alias={self._name()}\0{name}.license=GPL\0" for name in built_in)
            put(self.tree, "modules.builtin.modinfo", information)
        else:
            put(self.tree, "modules.builtin", "")
        put(self.tree, "modules.order", "".join(f"kernel/net/{name}.ko\n" for name in random.sample(made, len(made))))
        subprocess.run(["depmod", "-b", self.root, RELEASE], env=PROGRAMS, check=True, stderr=subprocess.DEVNULL)
        for file in sorted(self.tree.glob("kernel/net/*")):
            if random.random() < 0.06 and MARK not in file.name:
                file.unlink()
        if random.random() < 0.04:
            (self.tree / random.choice(("modules.alias.bin", "modules.softdep", "modules.builtin.bin"))).unlink()

    def _module(self, name: str, needs: list[str]) -> None:
        random, information = self.random, list[tuple[str, str]]()
        suffix = ".ko" if name == MARK else random.choice(SUFFIXES)
        if name != MARK and random.random() < 0.4:
            aliases = ["net-pf-*", "my_alias", "m_x[0-9]", "ip_conntrack", "n_*", self._name()]
            information += [("alias", random.choice(aliases)) for _ in range(random.randint(1, 3))]
        if name != MARK and random.random() < 0.2:
            information.append(("softdep", self._soft_dependencies()))
        # Symbols of modules that depmod cannot read belong to no module, as with an unknown compression.
        content = module(name.replace("-", "_"), [needed.replace("-", "_") for needed in needs], information)
        file = self.tree / f"kernel/net/{name}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(packed(content, suffix))

    # --- modprobe.d ---------------------------------------------------------------------

    def _make_configuration(self) -> None:
        random = self.random
        for place in PLACES:
            (self.root / place).mkdir(parents=True)
        for _ in range(random.randint(0, 5)):
            name = random.choice(
                ("a.conf", "b.conf", "c.conf", "modules.conf", "z.conf", "d.alias", "e.txt", ".f.conf")
            )
            file = self.root / random.choice(PLACES) / name
            if file.exists() or file.is_symlink():
                continue
            kind = random.random()
            if kind < 0.06:
                file.symlink_to("/dev/null")
            elif kind < 0.12 and self.dangling:
                file.symlink_to("nowhere")
            elif kind < 0.12:
                file.mkdir()
            else:
                lines = [self._line() for _ in range(random.randint(0, 6))]
                text = random.choice(("\n", "\n", "\n", "\r\n")).join(lines)
                file.write_bytes((text + random.choice(("\n", "\n", ""))).encode())

    def _line(self) -> str:
        random = self.random
        name = random.choice((self._name(), self._name(), random.choice(PATTERNS)))
        said: dict[str, Callable[[], str]] = {
            "blacklist": lambda: f"blacklist{self._blank()}{name}{random.choice(('', '', ' more', self._blank()))}",
            "install": lambda: f"install{self._blank()}{name}{self._blank()}{random.choice(COMMANDS)}",
            "remove": lambda: f"remove{self._blank()}{name} {random.choice(COMMANDS)}",
            "options": lambda: f"options{self._blank()}{name}{self._blank()}{random.choice(OPTIONS)}",
            "alias": lambda: f"alias{self._blank()}{name}{self._blank()}{self._name()}{random.choice(('', ' x'))}",
            "softdep": lambda: f"softdep{self._blank()}{name}{self._blank()}{self._soft_dependencies()}",
            "comment": lambda: f"#{self._blank()}blacklist {name}{random.choice(('', chr(92)))}",
            "nothing": lambda: random.choice(
                ("", " ", "\t", "install", "options h", "include x", "alias h", "softdep h ")
            ),
        }
        line = self._blank()[1:] + said[random.choice(list(said))]()
        if random.random() < 0.1:
            at = random.randint(0, len(line))
            broken = line[:at] + random.choice(("\\\n", "\\", "\\\n  ")) + line[at:]
            # The rest of a pattern must not match MARK.
            line = line if line[:at].endswith("*") else broken
        # Versions of kmod differ for a backslash at the end of a file.
        return line.rstrip("\\") if line.endswith("\\") and random.random() < 0.8 else f"{line} "

    def _soft_dependencies(self) -> str:
        random = self.random
        words = [
            random.choice(("pre:", "post:", *[self._name() for _ in range(4)])) for _ in range(random.randint(1, 5))
        ]
        return self._blank().join((random.choice(("pre:", "post:")), *words))

    def _name(self) -> str:
        name = self.random.choice((*NAMES, *NAMES, *OTHERS))
        return name.translate({ord("-"): "_"}) if self.random.random() < 0.3 else name

    def _blank(self) -> str:
        return self.random.choice((" ", " ", " ", "  ", "\t", " \t", "   "))

    def _make_command_line(self) -> None:
        random = self.random
        words = [
            "quiet", "root=/dev/vda1", "a.b.c=1", "=x", "--", "h.b", '"h.c=d e"', 'h.c="d e"', '"h.c"', 'm_a.x"y"',
            'h.u="v',
        ]  # fmt: skip
        words += [f"modprobe.blacklist={self._name()},{self._name()}" for _ in range(2)]
        words += [f"{self._name()}.a-b={random.choice(OPTIONS)}" for _ in range(3)]
        self.command_line = self._blank().join(random.sample(words, random.randint(0, 6))) + "\n"
        self.namespace = True
        put(self.root, "cmdline", self.command_line)

    # --- names --------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return every name that a tree can contain, and some that none does."""
        asked = [*NAMES, *OTHERS, "ip_conntrack", "m_zz", "h-", "m[a", "m[-]b", "symbol:symbol_of_h"]
        self.random.shuffle(asked)
        return asked


def judged(case: Generated, names: list[str], blacklist: bool) -> tuple[dict[str, list[str]], set[str]]:
    """Return modprobe's output for each name, and the names that it does not find."""
    asked = [word for name in names for word in (name, MARK)]
    places = [word for place in PLACES for word in ("-C", str(case.root / place))]
    command = ["modprobe", "-n", "-v", "-a", *(["-b"] if blacklist else []), *places]
    command += ["-d", str(case.root), "-S", RELEASE, "--", *asked]
    if case.namespace:
        command = [*NAMESPACE, "sh", "-c", UNDER, "sh", str(case.root / "cmdline"), *command]
    done = subprocess.run(command, env=PROGRAMS, capture_output=True, check=False)
    out, errors = (data.decode("utf-8", "replace").split("\n") for data in (done.stdout, done.stderr))
    printed: list[list[str]] = [[]]
    for line in out[:-1]:
        if line.startswith("insmod ") and line.split()[1].endswith(f"/{MARK}.ko"):
            printed.append([])
        else:
            printed[-1].append(line.rstrip())
    assert len(printed) == len(names) + 1, done
    told = [line.split("Module ")[1].split(" not found")[0] for line in errors if "not found in" in line]
    return dict(zip(names, printed)), set(told)


def said(case: Generated, names: list[str], blacklist: bool) -> tuple[dict[str, list[str]], set[str]]:
    """Return the same result according to ipvsd."""
    tree = ModuleTree(str(case.root), RELEASE)
    told = read_settings(str(case.root), tree, case.command_line)
    found = {name: load_steps.probe(name, told, tree) for name in names}
    lines = {name: [line for item in probes for line in steps(case, item, blacklist)] for name, probes in found.items()}
    return lines, {name for name, probes in found.items() if not probes}


def steps(case: Generated, found: load_steps.Probe, blacklist: bool) -> Iterator[str]:
    if found.blacklist and (blacklist or found.alias):
        return
    for step in found.steps:
        if step.command:
            yield f"install {step.command.rest} {step.options}".rstrip()
        elif step.file:
            yield f"insmod {case.tree}/{step.file} {step.options}".rstrip()


@pytest.mark.differential
@pytest.mark.parametrize("batch", range((BREADTH + BATCH - 1) // BATCH))
def test_ipvsd_predicts_modprobe(tmp_path: Path, batch: int) -> None:
    for seed in range(batch * BATCH, min((batch + 1) * BATCH, BREADTH)):
        case = Generated(tmp_path / str(seed), seed)
        names, blacklist = case.names(), seed % 2 == 1
        theirs, ours = judged(case, names, blacklist), said(case, names, blacklist)
        different = {name: (theirs[0][name], ours[0][name]) for name in names if theirs[0][name] != ours[0][name]}
        assert (seed, different) == (seed, {})
        assert (seed, theirs[1]) == (seed, ours[1])
