"""Who else sets what we hold, by the files below a root: one file for each program that reads some.

A finding of a file is told, and never acted upon: what is right is said by the planner alone.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass


class Program(enum.Enum):
    """Who applies a setting."""

    KERNEL = "kernel command line"
    SYSTEMD_SYSCTL = "systemd-sysctl"
    PROCPS = "sysctl --system"
    TUNED = "TuneD"
    REAPPLY = "TuneD's reapply_sysctl"
    NETWORKD = "systemd-networkd"
    UFW = "ufw"
    MODPROBE = "modprobe"
    MODULES_LOAD = "systemd-modules-load"
    FIREWALLD = "firewalld"
    NETWORK_MANAGER = "NetworkManager"


class Effect(enum.Enum):
    """What a setting does to what it is about."""

    SETS = "sets"  # gives a sysctl or a parameter its value
    LOADS = "loads"
    FORBIDS = "forbids"  # keeps a module from being loaded
    UNLOADS = "unloads"
    RUNS = "runs"  # a command in place of loading it, which may load it
    DISTURBS = "disturbs"  # leaves it right, and yet of less use


APPLIED_WHEN = {
    Program.KERNEL: "at boot",
    Program.SYSTEMD_SYSCTL: "at boot, and when systemd-sysctl is restarted",
    Program.PROCPS: "when somebody, or a package, runs it",
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
    """What one line of one file makes of `name`.

    `effective`: nothing that the same program applies comes after it. `certain` is False where whether it applies, or
    with which value, is known to that program alone: a variable, a condition, a version. `failure` is why it comes to
    nothing, if it does. `inactive` is why the program does not apply it at all, if it does not; such a line never wins.
    """

    name: str
    effect: Effect
    program: Program
    origin: str  # FILE:LINE, or FILE
    text: str  # as the file has it
    value: str = ""
    effective: bool = True
    certain: bool = True
    remedy: str = ""
    failure: str = ""
    inactive: str = ""


@dataclass(frozen=True)
class Names:
    """What is asked about: sysctls and MODULE.PARAMETER by the names under which they are shown, and modules.

    `others` are modules that are loaded, too, and may need those.
    """

    sysctls: Collection[str] = ()
    parameters: Collection[str] = ()
    modules: Collection[str] = ()
    others: Collection[str] = ()
