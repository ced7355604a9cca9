"""Trees below a temporary directory that resemble / for ipvsd, and a loader that changes them."""

from __future__ import annotations

import functools
import os
import shutil
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ipvsd.kernel.module_loader import BlacklistedError, LoadError
from ipvsd.sysctl import sysctl_names
from tests.fake_kernel import BROUGHT, CORE, DEPENDS, FORWARDING, NODE, PARAMETERS, RELEASE, WRITABLE

READY = {
    **CORE,
    **{key: value for brought in BROUGHT.values() for key, value in brought.items()},
    "net.ipv4.ip_forward": "1",
    **dict.fromkeys(FORWARDING, "1"),
    "net.ipv4.vs.conntrack": "1",
    "net.ipv4.vs.expire_nodest_conn": "1",
    "net.ipv4.vs.expire_quiescent_template": "1",
    "net.netfilter.nf_conntrack_max": "262144",
}
LIVE = NODE
WANTS = "etc/systemd/system/multi-user.target.wants"
READY_LINE = f"ready: {len(LIVE)} modules, 9 sysctls compliant"


@dataclass
class TreeLoader:
    """A loader for a tree. It writes the tree's proc/modules and the sysctls of a loaded module."""

    root: Path
    live: dict[str, str] = field(default_factory=dict)  # name: state column
    blacklisted: set[str] = field(default_factory=set)

    def load(self, name: str, options: Sequence[str] = ()) -> None:
        if name not in DEPENDS:
            raise LoadError("unknown module: not in the kernel's module index")
        if name in self.blacklisted:
            raise BlacklistedError
        for needed in DEPENDS[name]:
            self.load(needed)
        if name not in self.live:
            self.live[name] = "Live"
            said = dict(option.split("=", 1) for option in options)
            for parameter, value in PARAMETERS.get(name, {}).items():
                file = put(self.root, f"sys/module/{name}/parameters/{parameter}", f"{said.get(parameter, value)}\n")
                file.chmod(0o644 if f"{name}.{parameter}" in WRITABLE else 0o444)
            for key, value in BROUGHT.get(name, {}).items():
                put_sysctl(self.root, key, value)
            self.tell()

    def unload(self, name: str) -> None:
        del self.live[name]
        for directory in {
            sysctl(self.root, key).parent for key in BROUGHT.get(name, {}) if key != "net.nf_conntrack_max"
        }:
            shutil.rmtree(directory)
        shutil.rmtree(self.root / "sys/module" / name, ignore_errors=True)
        self.tell()

    def tell(self) -> None:
        """Write the tree's proc/modules."""
        lines = [f"{name} 16384 0 - {state} 0x0000000000000000\n" for name, state in self.live.items()]
        (self.root / "proc/modules").write_text("".join(lines))


def sysctl(root: Path, key: str) -> Path:
    parts = sysctl_names.parts(key)
    assert parts is not None
    return root.joinpath("proc/sys", *parts)


def put_sysctl(root: Path, key: str, value: str) -> None:
    """Write a sysctl as the kernel prints it, and create its directory."""
    sysctl(root, key).parent.mkdir(parents=True, exist_ok=True)
    sysctl(root, key).write_text(f"{value}\n")


def store(file: Path, value: str) -> None:
    """Write a value as one event, like in the kernel. Truncating a file of a tree would be a second event."""
    descriptor = os.open(file, os.O_WRONLY)
    os.write(descriptor, f"{value}\n".encode())
    os.close(descriptor)


def make_tree(
    root: Path,
    live: Collection[str] = LIVE,
    values: Mapping[str, str] = READY,
    shipped: Collection[str] = tuple(DEPENDS),
) -> Path:
    """Create the tree of a Debian node with these modules, sysctls and module files, and return it."""
    for directory in ("etc/ipvsd/conf.d", "run/ipvsd/conf.d", "usr/lib/ipvsd/conf.d", "var/lib/ipvsd", "proc/sys"):
        (root / directory).mkdir(parents=True)
    put_sysctl(root, "kernel.osrelease", RELEASE)
    for key, value in values.items():
        put_sysctl(root, key, value)
    put(root, "sys/devices/system/cpu/online", "0-1\n")
    put(root, "etc/os-release", 'NAME="Debian GNU/Linux"\nID=debian\n')
    put(root, "proc/net/if_inet6", "")
    make_modules(root, RELEASE, shipped, ("ipv6",))
    TreeLoader(root, dict.fromkeys(live, "Live")).tell()
    return root


def make_modules(root: Path, release: str, shipped: Collection[str], built_in: Collection[str] = ()) -> Path:
    """Create a module tree with the indexes of depmod and empty files. Return its directory."""
    tree = root / "lib/modules" / release
    (tree / "kernel/net").mkdir(parents=True, exist_ok=True)
    for name in shipped:
        (tree / file(name)).touch()
    for name, data in _indexes(tuple(shipped), tuple(built_in)).items():
        (tree / name).write_bytes(data)
    return tree


@functools.cache
def _indexes(shipped: Sequence[str], built_in: Sequence[str]) -> Mapping[str, bytes]:
    """Return the files that depmod would create for these modules."""
    lines = {name: f"{file(name)}: {' '.join(map(file, _needs(name)))}".rstrip() for name in shipped}
    return {
        "modules.dep": "".join(f"{line}\n" for line in lines.values()).encode(),
        "modules.builtin": "".join(f"kernel/net/{name}/{name}.ko\n" for name in built_in).encode(),
        "modules.dep.bin": index({name: [line] for name, line in lines.items()}),
        "modules.builtin.bin": index({name: [""] for name in built_in}),
        "modules.alias.bin": index({}),
    }


def file(name: str) -> str:
    return f"kernel/net/{name}.ko.xz"


def _needs(name: str) -> list[str]:
    """Return all dependencies of a module like depmod, the one to load first at the end."""
    direct = DEPENDS.get(name, ())
    return list(dict.fromkeys([*direct, *(deeper for needed in direct for deeper in _needs(needed))]))


def write_index(path: Path, values: Mapping[str, Sequence[str]]) -> None:
    """Write an index, and create its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(index(values))


def index(values: Mapping[str, Sequence[str]]) -> bytes:
    """Return an index as depmod writes it."""
    data = bytearray(struct.pack(">III", 0xB007F457, 0x00020001, 0))
    struct.pack_into(">I", data, 8, _write_node(data, {key.encode(): found for key, found in values.items()}))
    return bytes(data)


def _write_node(data: bytearray, values: Mapping[bytes, Sequence[str]]) -> int:
    """Append a node and its descendants. Return its offset with the flags of its parts."""
    prefix = os.path.commonprefix(list(values))  # noqa: RUF071 -- of bytes, not of paths
    values = {key[len(prefix) :]: found for key, found in values.items()}
    own = values.get(b"", ())
    children = {
        byte: _write_node(data, {key[1:]: found for key, found in values.items() if key[:1] == bytes((byte,))})
        for byte in sorted({key[0] for key in values if key})
    }
    offset = len(data) | (1 << 29 if children else 0) | (1 << 30 if own else 0) | (1 << 31 if prefix else 0)
    data += prefix + b"\0" if prefix else b""
    if children:
        first, last = min(children), max(children)
        data += bytes((first, last))
        data += b"".join(struct.pack(">I", children.get(byte, 0)) for byte in range(first, last + 1))
    if own:
        data += struct.pack(">I", len(own))
        data += b"".join(struct.pack(">I", number) + value.encode() + b"\0" for number, value in enumerate(own))
    return offset


def put(root: Path, path: str, text: str) -> Path:
    """Write a file below a tree, create its directory, and return its path."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def enable(root: Path, unit: str = "ipvsd.service") -> None:
    """Enable a unit as `systemctl enable` does. The unit itself is an empty file, as in reduced trees."""
    put(root, f"usr/lib/systemd/system/{unit}", "")
    link = root / WANTS / unit
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"/usr/lib/systemd/system/{unit}")


def image_beside_a_secret(directory: Path) -> Path:
    """Create a small image beside a file that it must not reveal, and return the image."""
    put(directory, "outside/a", "outside\n")
    put(directory, "image/etc/a", "inside\n")
    put(directory, "image/a", "top\n")
    (directory / "image/etc/d").mkdir()
    return directory / "image"


def put_process(
    root: Path, pid: int, comm: str, arguments: Sequence[str], cgroup: str = "", age: int = 3600, network: str = "1"
) -> Path:
    """Create the files in proc of a process that has run for `age` seconds, and return its directory."""
    put(root, "proc/uptime", "100000.00 1.00\n")
    put(root, f"proc/{pid}/comm", f"{comm}\n")
    put(root, f"proc/{pid}/cmdline", "".join(f"{argument}\0" for argument in arguments))
    put(root, f"proc/{pid}/cgroup", f"0::/{cgroup}\n")
    put(root, f"proc/{pid}/stat", f"{pid} ({comm}) S{' 0' * 18} {(100000 - age) * 100} 0\n")
    (root / f"proc/{pid}/ns").mkdir()
    (root / f"proc/{pid}/ns/net").symlink_to(f"net:[{network}]")
    return root / f"proc/{pid}"
