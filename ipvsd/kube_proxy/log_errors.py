"""The errors in kube-proxy's log that have a known cause, each with an explanation and the way to fix it.

The texts are those of kube-proxy 1.20 to 1.37 and of the programs that it runs: cmd/kube-proxy/app/server_others.go
(server_linux.go) and pkg/proxy/ipvs of kubernetes/kubernetes. Each entry names its section in troubleshooting.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ipvsd.model import printable

_MAX_LINE = 500  # characters of a line that is shown
_RECENT = 60  # lines from the end of a log in which an error still counts: kube-proxy can print its usage after it


@dataclass(frozen=True)
class KnownError:
    """`fatal` means that kube-proxy exits with it, or uses another mode.

    `fix` has the fields of the pattern. A person may paste it into a shell, so fields contain no special characters.
    """

    id: str
    pattern: re.Pattern[str]
    section: str
    explanation: str
    fix: str
    fatal: bool = True


@dataclass(frozen=True)
class LoggedError:
    """An error in a log: its line, and the entry that explains it."""

    line: str
    known: KnownError
    fix: str


def _entry(identity: str, pattern: str, section: str, explanation: str, fix: str, fatal: bool = True) -> KnownError:
    return KnownError(identity, re.compile(pattern), section, explanation, fix, fatal)


_CHECK = "run 'ipvsd check': ipvsd loads the modules, or reports the reason; then restart kube-proxy"
CANT_USE = "can't use the IPVS proxier"
IPSET_VERSION = "error getting ipset version"
DUMMY_VS = "Could not create dummy VS"
LOAD_MODULES = "failed to load kernel modules: [ip_vs_rr ...]"
USING_IPTABLES = "Using iptables Proxier"
CONNTRACK_MAX = "open /proc/sys/net/netfilter/nf_conntrack_max: no such file or directory"
SET_SYSCTL = "can't set sysctl net/ipv4/vs/conntrack"
RESTORE = "Failed to execute iptables-restore"
MAKE_SET = "Failed to make sure existence of ip set"
DUMMY = "Failed to create dummy interface"
IN_USE = "bind: address already in use"
UNKNOWN_MODE = "unknown proxy mode"
SCHEDULER_NOT_FOUND = "IPVS: Scheduler module ip_vs_... not found"  # from the kernel

# The first matching entry explains a line, so specific causes come before general ones.
KNOWN: Sequence[KnownError] = (
    _entry(
        "scheduler_missing",
        r'[Cc]ould not create dummy VS"?.*?\bscheduler="?(?P<scheduler>[\w-]{1,40})',
        DUMMY_VS,
        "kube-proxy 1.27 and later creates a virtual service with its scheduler as a test. The kernel has no module "
        "for this scheduler, so kube-proxy exits",
        "set ipvs.scheduler in kube-proxy's configuration to a scheduler of this kernel, such as rr, or install the "
        "package with module ip_vs_{scheduler}",
    ),
    _entry(
        "scheduler_missing",
        r"[Cc]ould not create dummy VS",
        DUMMY_VS,
        "kube-proxy 1.27 and later creates a virtual service with its scheduler as a test. The kernel refuses it, so "
        "kube-proxy exits",
        "set ipvs.scheduler in kube-proxy's configuration to a scheduler of this kernel, such as rr",
    ),
    _entry(
        "scheduler_unknown",
        r"Scheduler: Invalid value",
        SCHEDULER_NOT_FOUND,
        "kube-proxy before 1.27 accepts only rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed and nq, and exits otherwise",
        "set 'scheduler: rr' in section ipvs of kube-proxy's configuration, and restart kube-proxy",
    ),
    _entry(
        "ipset_failed",
        r"error getting ipset version",
        IPSET_VERSION,
        "kube-proxy runs the ipset program, which is missing, or fails because the kernel has no module ip_set",
        "run 'modprobe ip_set', and install ipset where kube-proxy runs (the node, or its container image)",
    ),
    _entry(
        "ipset_too_old",
        r"ipset version: (?P<version>\S{1,20}) is less than min required version",
        IPSET_VERSION,
        "kube-proxy requires ipset 6.0 or later",
        "install a newer ipset where kube-proxy runs (the node, or its container image)",
    ),
    _entry(
        "modules_missing",
        r"required kernel modules are not loaded: \[(?P<modules>[\w -]{1,400})\]",
        LOAD_MODULES,
        "kube-proxy before 1.27 needs a fixed list of modules, and ip_vs_SCHEDULER. One of them was neither loaded "
        "nor could be loaded when kube-proxy started. Before 1.26, kube-proxy then uses iptables mode",
        "run 'modprobe -a {modules}', and restart kube-proxy",
    ),
    _entry(
        "modules_missing",
        r"[Ff]ailed to load kernel modules?\b",
        LOAD_MODULES,
        "kube-proxy could not load the modules with modprobe. A container needs modprobe and /lib/modules for that; "
        "on a node with ipvsd, the modules are loaded before kube-proxy starts",
        _CHECK,
    ),
    _entry(
        "ipvs_unsupported",
        r"ipvs (?:is )?not supported",
        CANT_USE,
        "the module ip_vs was not loaded when kube-proxy started, and kube-proxy could not load it. kube-proxy 1.26 "
        "and later exits",
        "run 'modprobe ip_vs', and restart kube-proxy",
    ),
    _entry(
        "ipvs_unusable",
        r"[Cc]an't use (?:the )?(?:IPVS|ipvs) proxier|can't determine whether to use ipvs proxy",
        CANT_USE,
        "kube-proxy could not use IPVS when it started. 1.26 and later exits, and an older one uses iptables mode",
        _CHECK,
    ),
    _entry(
        "conntrack_missing",
        r"open /proc/sys/net/netfilter/nf_conntrack_\w+: no such file or directory",
        CONNTRACK_MAX,
        "the module nf_conntrack was not loaded when kube-proxy started, so its sysctls did not exist",
        "run 'modprobe nf_conntrack', and restart kube-proxy",
    ),
    _entry(
        "sysctl_refused",
        r"can't set sysctl (?P<sysctl>[\w/.-]{1,80})",
        SET_SYSCTL,
        "kube-proxy found a value that it had to change, and may not write: /proc/sys is read-only for it, or "
        "AppArmor or SELinux denies it. kube-proxy does not write a value that is already correct",
        "run 'ipvsd check': with ipvsd, the values are correct before kube-proxy starts; then restart kube-proxy",
    ),
    _entry(
        "mode_unknown",
        r"[Uu]nknown proxy mode \\?\"\\?\"|[Uu]nknown proxy mode, assuming iptables proxy\" proxyMode=\"\""
        r'|Flag proxy-mode="" unknown',
        UNKNOWN_MODE,
        "the configuration that kube-proxy reads sets no mode, so kube-proxy uses iptables mode",
        "set 'mode: ipvs' at the top level of kube-proxy's configuration, and restart kube-proxy",
    ),
    _entry(
        "mode_unknown",
        r"[Uu]nknown proxy mode|Flag proxy-mode=\S+ unknown|ProxyMode: Invalid value",
        UNKNOWN_MODE,
        "kube-proxy compares the mode exactly: it accepts ipvs, but neither IPVS nor quotation marks in the value",
        "set 'mode: ipvs' at the top level of kube-proxy's configuration, and restart kube-proxy",
    ),
    _entry(
        "iptables_restore_failed",
        r"[Ff]ailed to execute iptables-restore|iptables-restore: .{0,200}failed|Couldn't load (?:match|target) ",
        RESTORE,
        "iptables-restore rejected the rules of kube-proxy, usually because the kernel lacks a module for a match or "
        "target. Services are not masqueraded",
        _CHECK,
        fatal=False,
    ),
    _entry(
        "ip_set_failed",
        r"[Ff]ailed to make sure (?:existence of )?ip set|[Ee]rror creating ipset|error creating ip ?set",
        MAKE_SET,
        "the kernel lacks the module of a set type (ip_set_hash_ipport and others), so kube-proxy programs nothing",
        _CHECK,
        fatal=False,
    ),
    _entry(
        "dummy_failed",
        r"[Ff]ailed to create dummy interface|error creating dummy interface",
        DUMMY,
        "the kernel lacks the module dummy, so kube-proxy cannot create kube-ipvs0 and programs nothing",
        "run 'modprobe dummy', and restart kube-proxy",
        fatal=False,
    ),
    _entry(
        "address_in_use",
        r"listen tcp (?P<address>[\w.:\[\]-]{1,60}): bind: address already in use",
        IN_USE,
        "another program listens on an address of kube-proxy, often a second kube-proxy",
        "run 'ss -ltnp' to find the program that listens on {address}, and stop it",
        fatal=False,
    ),
)

_PREFIX = r"^(?:\S+ (?:stdout|stderr) [FP] )?"
_SEVERE = re.compile(rf"{_PREFIX}(?:[EF][0-9]{{4}} |Error: |panic: )|level=(?:error|fatal)")
# The last line of a process that ends by itself, except for stack traces and the usage of flags after it.
_FATAL = re.compile(
    rf"{_PREFIX}(?:F[0-9]{{4}} |E[0-9]{{4}} .*\"?(?:command failed|Error running ProxyServer)"
    r"|Error: |panic: |fatal error: )|level=fatal"
)
_NAMED = re.compile("kube-?proxy|proxier", re.IGNORECASE)


def last_known(lines: Sequence[str], fatal_only: bool = False, recent: int = _RECENT) -> Optional[LoggedError]:
    """Return the last explained error in the last `recent` lines of a log, or None.

    Of the lines that follow each other there, the one with the most specific entry counts: kube-proxy logs one
    problem as several lines.
    """
    end = [line for line in lines if line.strip()][-recent:]
    for index in range(len(end) - 1, -1, -1):
        if explain(end[index], fatal_only) is not None:
            group = [explain(line, fatal_only) for line in end[max(0, index - _TOGETHER) : index + 1]]
            return min(filter(None, group), key=lambda found: KNOWN.index(found.known))
    return None


_TOGETHER = 8  # lines that can belong to one problem


def explain(line: str, fatal_only: bool = False) -> Optional[LoggedError]:
    """Return the explanation of one line of a log, or None."""
    line = line[: _MAX_LINE * 4]
    for known in KNOWN:
        found = known.pattern.search(line) if known.fatal or not fatal_only else None
        if found:
            values = {name: printable.ascii_line(text, 200) for name, text in found.groupdict().items() if text}
            return LoggedError(printable.line(line.strip(), _MAX_LINE), known, known.fix.format(**values))
    return None


def last_fatal(lines: Sequence[str]) -> str:
    """Return the last line with which a process reports that it ends because of an error, or an empty text."""
    return _last(_FATAL, lines, False)


def last_error(lines: Sequence[str], shared: bool = False) -> str:
    """Return the last line of a log that reports an error, explained or not, or an empty text.

    `shared` means that other programs write into the log: then the line has to name kube-proxy.
    """
    return _last(_FATAL, lines, shared) or _last(_SEVERE, lines[-_RECENT:], shared)


def _last(pattern: re.Pattern[str], lines: Sequence[str], shared: bool) -> str:
    for line in reversed(lines):
        start = line[: _MAX_LINE * 4]
        if pattern.search(start) and (not shared or _NAMED.search(start)):
            return printable.line(line.strip(), _MAX_LINE)
    return ""
