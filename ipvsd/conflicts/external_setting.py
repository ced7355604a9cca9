"""Settings of managed items by conflicting programs, which ipvsd reports and never acts on."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass


class Program(enum.Enum):
    KERNEL = "kernel_command_line"
    SYSTEMD_SYSCTL = "systemd_sysctl"
    PROCPS = "sysctl_system"
    TUNED = "tuned"
    REAPPLY = "tuned_reapply_sysctl"
    NETWORKD = "systemd_networkd"
    UFW = "ufw"
    MODPROBE = "modprobe"
    MODULES_LOAD = "systemd_modules_load"
    FIREWALLD = "firewalld"
    NETWORK_MANAGER = "network_manager"


class Effect(enum.Enum):
    SETS = "sets"  # sets the value of a sysctl or a parameter
    LOADS = "loads"
    BLOCKS = "blocks"  # prevents a module from being loaded
    UNLOADS = "unloads"
    RUNS = "runs"  # runs a command in place of loading the module, which may load it
    INTERFERES = "interferes"  # leaves the item compliant, but impairs its use


APPLIED_WHEN = {
    Program.KERNEL: "at boot",
    Program.SYSTEMD_SYSCTL: "at boot, and when systemd-sysctl is restarted",
    Program.PROCPS: "when an administrator or a package runs this command",
    Program.TUNED: "when TuneD starts, and when its profile changes",
    Program.REAPPLY: "when TuneD starts, and when its profile changes",
    Program.NETWORKD: "when systemd-networkd starts or reloads, and when a link comes up",
    Program.UFW: "when ufw starts",
    Program.MODPROBE: "when the module is loaded",
    Program.MODULES_LOAD: "at boot",
    Program.FIREWALLD: "when firewalld stops or restarts",
    Program.NETWORK_MANAGER: "while NetworkManager runs",
}


@dataclass(frozen=True)
class ExternalSetting:
    """The effect of one line of one file on the item `name`.

    It is `effective` if the same program applies no later setting, and `certain` unless only the program knows whether,
    or with which value, it applies. `failure` is the reason why it has no effect. `inactive` is the reason why the
    program does not apply it at all; then it is never effective.
    """

    name: str
    effect: Effect
    program: Program
    origin: str  # FILE:LINE, or FILE
    text: str  # as written in the file
    value: str = ""
    effective: bool = True
    certain: bool = True
    remedy: str = ""
    failure: str = ""
    inactive: str = ""


@dataclass(frozen=True)
class Names:
    """The queried items by their canonical names. `others` are loaded modules that may depend on `modules`."""

    sysctls: Collection[str] = ()
    parameters: Collection[str] = ()
    modules: Collection[str] = ()
    others: Collection[str] = ()
