"""The rules of kube-proxy for valid values, and the settings that it ignores.

Sources: pkg/proxy/apis/config/validation/validation.go, pkg/proxy/apis/config/v1alpha1/defaults.go and
cmd/kube-proxy/app/server_linux.go of Kubernetes 1.20 to 1.37.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Optional

from ipvsd.config import spelling
from ipvsd.config.profiles import IPVS_OFF_BY_DEFAULT, IPVS_REMOVED, SCHEDULERS
from ipvsd.config.schema import shown
from ipvsd.config.yaml_tree import Mapping, Sequence
from ipvsd.kube_proxy import feature_gates, values, yaml_edits
from ipvsd.kube_proxy.config_fields import (
    LOCAL_MODES,
    MODES,
    NFTABLES_BY_DEFAULT,
    SCHEDULERS_BEFORE_1_27,
)
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.k3s_config import ARGUMENTS
from ipvsd.kube_proxy.settings import EXITS_VALIDATION, Setting, Settings
from ipvsd.kube_proxy.source_text import Edit
from ipvsd.kube_proxy.values import Invalid, duration

SYNC_PERIOD = 30.0  # defaults.go
_SYNC_SHARED = (1, 32)  # since then, only the periods of the section of the mode count
_SCHEDULER_TRIED = (1, 27)  # kubernetes/kubernetes#114669: before, validation knows ten schedulers
_PRIMARY = (1, 28)  # nodePortAddresses: [primary]
_KEYWORDS = (1, 37)  # nodePortAddresses: [localhost, all]
_MAX_GUESSES = 10  # of the names of gates; a guess takes some milliseconds
_NFTABLES_KERNEL = "nftables (Linux 5.13 or later)"


def check(settings: Settings) -> None:
    """Report every value that kube-proxy rejects or ignores."""
    for rule in _RULES:
        rule(settings)


def mode_of(settings: Settings) -> str:
    """Return the effective mode of kube-proxy, or an empty text if it is invalid, unknown or in another file."""
    setting = settings.known.get("mode")
    if settings.config_file or (setting is not None and setting.value is None):
        return ""
    mode = settings.get("mode", "") or "iptables"
    return mode if mode in MODES and MODES[mode][0] <= settings.version < MODES[mode][1] else ""


def _mode(settings: Settings) -> None:
    setting, version = settings.known.get("mode"), settings.version
    if setting is not None and setting.value is None and not settings.is_document:
        return
    mode = settings.get("mode", "")
    if not mode:
        _no_mode(settings, setting)
        return
    assert setting is not None
    if mode not in MODES or not MODES[mode][0] <= version < MODES[mode][1]:
        _unknown_mode(settings, setting, mode)
    elif mode == "ipvs":
        _ipvs_mode(settings, setting)
    elif mode == "nftables" and version < NFTABLES_BY_DEFAULT and not settings.get("featureGates.NFTablesProxyMode"):
        problem = "nftables mode is off by default before 1.31"
        settings.report(
            "mode", Severity.ERROR, problem, Effect.EXITS, EXITS_VALIDATION,
            settings.written("featureGates.NFTablesProxyMode", "true"), _enabled_gate(settings, "NFTablesProxyMode"),
        )  # fmt: skip


def _no_mode(settings: Settings, setting: Optional[Setting]) -> None:
    """Report an empty mode, which means iptables mode on Linux."""
    keys = [key for finding in settings.findings for key in finding.key.split(", ")]
    keys += settings.replaced
    keys += ["mode" for finding in settings.findings if "'mode'" in finding.correction]  # a misspelt key
    if any(re.sub("[^a-z]", "", key.rpartition(".")[2].lower()) in ("mode", "proxymode") for key in keys):
        return  # the mode is in the file, in another place or form
    used = [item for item in settings.section("ipvs") if item.value and not _is_default(item)]
    edits: tuple[Edit, ...] = ()
    if setting and (setting.option or setting.node):
        edits = setting.replace("ipvs")
    elif settings.root:
        edits = yaml_edits.add(settings.source, settings.root, "mode", "ipvs")
    elif used:
        edits = _added_option(settings, used[0], "proxy-mode=ipvs")
    problem = f"{'empty' if setting else 'missing'} {settings.name('mode')}: on Linux, kube-proxy uses iptables"
    if used or (settings.is_document and any(key.startswith("ipvs.") for key in keys)):
        what = "the section ipvs has" if settings.is_document else f"--{used[0].name} has"
        settings.report(
            "mode", Severity.ERROR, f"{problem}, and {what} no effect", Effect.OTHER_MODE,
            "kube-proxy starts in iptables mode without a message about ipvs", settings.written("mode", "ipvs"), edits,
        )  # fmt: skip
    elif not settings.embedded:
        settings.report(
            "mode", Severity.WARNING, problem, Effect.OTHER_MODE, "kube-proxy starts in iptables mode",
            f"{settings.written('mode', 'ipvs')} (or another mode, to make the choice visible)",
        )  # fmt: skip


def _is_default(setting: Setting) -> bool:
    return setting.path == "ipvs.scheduler" and setting.value == "rr"


def _unknown_mode(settings: Settings, setting: Setting, mode: str) -> None:
    known = [name for name, (since, before) in MODES.items() if since <= settings.version < before]
    problem = f"unknown mode {shown(mode)}"
    if mode in MODES:
        since, before = MODES[mode]
        problem = f"mode {mode!r} " + (
            "was removed in {}.{}".format(*before)
            if before <= settings.version
            else "exists since {}.{}".format(*since)
        )
    elif mode == "kernelspace":
        problem = "mode 'kernelspace' exists only on Windows"
    close = spelling.nearest(mode, known, 0.5) or "ipvs"
    settings.reject(setting, f"{problem}: must be {', '.join(known)} or empty", EXITS_VALIDATION, close)


def _ipvs_mode(settings: Settings, setting: Setting) -> None:
    version, enabled = settings.version, settings.get("featureGates.KubeProxyIPVS")
    if version >= IPVS_REMOVED:
        settings.report(
            "mode", Severity.ERROR, "Kubernetes {}.{} removes IPVS mode".format(*IPVS_REMOVED), Effect.EXITS,
            "kube-proxy exits: it does not know the mode", f"use {_NFTABLES_KERNEL} or iptables",
            setting.replace("nftables"),
        )  # fmt: skip
    elif version >= IPVS_OFF_BY_DEFAULT and not enabled:
        problem = "Kubernetes {}.{} disables IPVS mode by default".format(*IPVS_OFF_BY_DEFAULT)
        correction = f"{settings.written('featureGates.KubeProxyIPVS', 'true')}, or use another mode"
        if not settings.is_document:
            correction = "add KubeProxyIPVS=true to the option feature-gates, or use another mode"
        settings.report(
            "mode featureGates", Severity.ERROR, problem, Effect.EXITS, "kube-proxy exits: IPVS mode is disabled",
            correction,
            _enabled_gate(settings, "KubeProxyIPVS"),
        )  # fmt: skip


def _enabled_gate(settings: Settings, name: str) -> tuple[Edit, ...]:
    """Return the edits that enable a feature gate."""
    own = settings.known.get(f"featureGates.{name}")
    gates = settings.known.get("featureGates")
    if own and own.node:
        return own.replace("true", is_string=False)
    if settings.root:
        if gates and gates.node and isinstance(gates.node, Mapping):
            return yaml_edits.add(settings.source, gates.node, name, "true")
        pair = next(((key, item) for key, item in settings.root.items if key.text == "featureGates"), None)
        if pair:
            return yaml_edits.replace_value(settings.source, pair[1], f"{{{name}: true}}")
        return yaml_edits.add(settings.source, settings.root, "featureGates", f"{{{name}: true}}")
    if gates and gates.option and gates.option.value:
        value = re.sub(rf"(?<![A-Za-z]){name}=[A-Za-z0-9]*", f"{name}=true", gates.option.value)
        return gates.replace(value if name in value else f"{value},{name}=true")
    return _added_option(settings, settings.known.get("mode"), f"feature-gates={name}=true")


def _added_option(settings: Settings, beside: Optional[Setting], text: str) -> tuple[Edit, ...]:
    """Return the edit that adds an option beside another one, or nothing if the form of the file does not permit it."""
    option = beside.option if beside else None
    if option is None:
        return ()
    source, text = option.source, text if settings.embedded else f"--{text}"
    line = option.source.line_start(option.start)
    lead = source.content[line : option.start]
    if lead.strip() == "-":  # an item of a list in YAML
        return (source.insert_line(option.end, f'{lead}"{text}"'),)
    if "[" in lead:
        return (source.edit(option.end, option.end, f', "{text}"'),)
    if settings.embedded:  # a list without brackets, or a command line of k3s
        text = f"--{ARGUMENTS}={text}" if ARGUMENTS in source.content[option.start : option.end] else ""
    return (source.edit(option.end, option.end, f" {text}"),) if text else ()


def _gates(settings: Settings) -> None:
    reported = 0
    for path, setting in list(settings.known.items()):
        section, _, name = path.partition(".")
        if section != "featureGates" or not name or setting.value is None:
            continue
        problem = feature_gates.check(name, setting.value, settings.version)
        if not problem:
            continue
        if feature_gates.may_be_newer(name, settings.version):
            settings.add(
                setting.source, setting.start, Severity.NOTE, setting.name,
                f"{problem}: ipvsd knows all gates only up to 1.{feature_gates.LAST_COMPLETE[1]}",
                Effect.NONE, "kube-proxy exits if its version does not have the gate",
                "compare the name with 'kube-proxy --help'",
            )  # fmt: skip
            continue
        reported += 1
        may_guess = reported <= _MAX_GUESSES and name not in feature_gates.gates()
        correction = feature_gates.closest(name, settings.version) if may_guess else ""
        edits = setting.remove() if not setting.option else _without_gate(setting, name)
        if correction and not setting.option and setting.parent:
            key = setting.parent.items[setting.number][0]
            edits = yaml_edits.rename(setting.source, key, correction)
        reason = "the feature is locked" if "locked" in problem else f"unrecognized feature gate {shown(name, False)}"
        settings.add(
            setting.source, setting.start, Severity.ERROR, setting.name, problem, Effect.EXITS,
            f"kube-proxy exits: {reason}",
            f"write {correction!r}" if correction else f"remove {shown(name)}", edits,
        )  # fmt: skip


def _without_gate(setting: Setting, name: str) -> tuple[Edit, ...]:
    assert setting.option
    pairs = [pair for pair in (setting.option.value or "").split(",") if pair.partition("=")[0].strip() != name]
    return setting.replace(",".join(pairs))


def _scheduler(settings: Settings) -> None:
    setting, version = settings.given("ipvs.scheduler"), settings.version
    if not setting or not setting.value or mode_of(settings) != "ipvs":
        return
    name = setting.value
    close = spelling.scheduler(name) if name not in SCHEDULERS else None
    close = close if len(name) > 3 or name.lower() == close else None  # too short for a guess
    if version < _SCHEDULER_TRIED:
        if name in SCHEDULERS_BEFORE_1_27:
            return
        known = ", ".join(SCHEDULERS_BEFORE_1_27)
        problem = f"unknown scheduler {shown(name)} for kube-proxy before 1.27: must be {known}"
        settings.reject(
            setting, problem, EXITS_VALIDATION, close if close in SCHEDULERS_BEFORE_1_27 and close else "rr"
        )
    elif name not in SCHEDULERS and name not in settings.schedulers:
        problem = f"unknown scheduler {shown(name)}: Linux has {', '.join(SCHEDULERS)}"
        consequence = "kube-proxy tries the scheduler, and exits if the kernel does not have it"
        settings.reject(setting, problem, consequence, close or "rr")


def _periods(settings: Settings) -> None:
    mode, version = mode_of(settings), settings.version
    for section in ("iptables", "ipvs", "nftables"):
        used = section == (mode or "iptables") or (section == "iptables" and version < _SYNC_SHARED)
        period, least = settings.given(f"{section}.syncPeriod"), settings.given(f"{section}.minSyncPeriod")
        for setting in (period, least):
            if setting and setting.value < 0 and used:
                settings.reject(setting, "invalid duration: must not be negative", EXITS_VALIDATION, "0s")
        seconds = (period.value if period else 0) or SYNC_PERIOD
        if not least or least.value <= seconds or seconds < 0:
            continue
        shown_period = f"{seconds:g}s" if not period or not period.value else _text(period)
        problem = f"{least.name.rpartition('.')[2]} is greater than the synchronization period ({shown_period})"
        if settings.is_document:
            problem = f"minSyncPeriod is greater than syncPeriod ({shown_period})"
        if used:
            settings.reject(least, problem, EXITS_VALIDATION, shown_period)
        else:
            settings.report(
                least.path, Severity.WARNING, problem, Effect.IGNORES,
                f"kube-proxy ignores the section {section} in {mode} mode", least.written(shown_period),
                least.replace(shown_period),
            )  # fmt: skip
    setting = settings.given("configSyncPeriod")
    if setting and setting.value < 0:
        settings.reject(setting, "invalid duration: must be greater than 0", EXITS_VALIDATION, "15m")


def _text(setting: Setting) -> str:
    text = setting.option.value or "" if setting.option else getattr(setting.node, "text", "")
    return text if isinstance(duration(text), float) else f"{setting.value:g}s"


def _timeouts(settings: Settings) -> None:
    in_ipvs = ("ipvs.tcpTimeout", "ipvs.tcpFinTimeout", "ipvs.udpTimeout")
    names = "tcpEstablishedTimeout tcpCloseWaitTimeout udpTimeout udpStreamTimeout".split()
    for path in (*in_ipvs, *(f"conntrack.{name}" for name in names)):
        setting = settings.given(path)
        if not setting or setting.value >= 0 or (path in in_ipvs and mode_of(settings) != "ipvs"):
            continue
        settings.reject(setting, "invalid duration: must not be negative", EXITS_VALIDATION, "0s")


_RANGES = (
    ("iptables.masqueradeBit", 0, 31, "14"),
    ("nftables.masqueradeBit", 0, 31, "14"),
    ("oomScoreAdj", -1000, 1000, "-999"),
    ("conntrack.maxPerCore", 0, None, "32768"),
    ("conntrack.min", 0, None, "131072"),
    ("clientConnection.burst", 0, None, "10"),
)


def _numbers(settings: Settings) -> None:
    for path, low, high, default in _RANGES:
        setting = settings.given(path)
        if not setting or (low <= setting.value and (high is None or setting.value <= high)):
            continue
        if path.startswith("nftables") and mode_of(settings) != "nftables":
            continue
        limits = f"from {low} to {high}" if high is not None else f"at least {low}"
        settings.reject(
            setting, f"invalid number {setting.value}: must be {limits}", EXITS_VALIDATION, default, is_string=False
        )


def _networks(settings: Settings) -> None:
    local_mode = settings.get("detectLocalMode", "") or "ClusterCIDR"
    setting = settings.given("clusterCIDR")
    if setting and setting.value and local_mode == "ClusterCIDR":
        _cluster_cidr(settings, setting)
    for path in ("nodePortAddresses", "ipvs.excludeCIDRs"):
        setting = settings.given(path)
        if setting and (path != "ipvs.excludeCIDRs" or mode_of(settings) == "ipvs"):
            _each_network(settings, setting)


def _cluster_cidr(settings: Settings, setting: Setting) -> None:
    parts = setting.value.split(",")
    found = [values.network(part) for part in parts]
    corrected = ",".join(item.correction if isinstance(item, Invalid) else part for part, item in zip(parts, found))
    if any(isinstance(item, Invalid) and not item.correction for item in found):
        corrected = ""
    bad = next((item for item in found if isinstance(item, Invalid)), None)
    if bad:
        settings.reject(setting, bad.problem, EXITS_VALIDATION, corrected)
    elif len(parts) > 2:
        settings.reject(setting, "invalid value: more than two CIDRs", EXITS_VALIDATION, ",".join(parts[:2]))
    elif len(parts) == 2 and found[0] == found[1]:
        problem = f"invalid value: both CIDRs are IPv{found[0]}, and a pair must have one of each family"
        settings.reject(setting, problem, EXITS_VALIDATION, parts[0])
    elif len(parts) == 2 and settings.version < (1, 21) and not settings.get("featureGates.IPv6DualStack"):
        problem = "invalid value: two CIDRs require featureGates.IPv6DualStack before 1.21"
        settings.report(
            "clusterCIDR", Severity.ERROR, problem, Effect.EXITS, EXITS_VALIDATION,
            settings.written("featureGates.IPv6DualStack", "true"), _enabled_gate(settings, "IPv6DualStack"),
        )  # fmt: skip


def _each_network(settings: Settings, setting: Setting) -> None:
    ports = setting.path == "nodePortAddresses"
    words = [
        word for word, since in (("primary", _PRIMARY), ("localhost", _KEYWORDS), ("all", _KEYWORDS))
        if ports and settings.version >= since
    ]  # fmt: skip
    if ports and "primary" in setting.value and len(setting.value) > 1 and settings.version < _KEYWORDS:
        settings.reject(setting, "invalid value: 'primary' cannot be combined with CIDRs", EXITS_VALIDATION, "")
        return
    for number, text in enumerate(setting.value):
        found = None if text in words else values.network(text)
        if not isinstance(found, Invalid):
            continue
        if not isinstance(setting.node, Sequence):
            corrected = ",".join(found.correction if text == item else item for item in setting.value)
            settings.reject(setting, found.problem, EXITS_VALIDATION, corrected if found.correction else "")
            return
        node = setting.node.items[number]
        always = setting.parent is not None and yaml_edits.is_json(setting.parent)
        new = yaml_edits.quoted(found.correction, always)
        edits: tuple[Edit, ...] = (setting.source.edit(node.span.start, node.span.end, new),)
        if not found.correction:
            edits = yaml_edits.remove_item(setting.source, setting.node, number) or setting.remove()
        settings.add(
            setting.source, node.span.start, Severity.ERROR, setting.name, found.problem, Effect.EXITS,
            EXITS_VALIDATION,
            found.correction or "write ADDRESS/LENGTH",
            edits,
        )  # fmt: skip


def _addresses(settings: Settings) -> None:
    setting = settings.given("bindAddress")
    if setting and setting.value:
        found = values.address(setting.value)
        if isinstance(found, Invalid):
            settings.reject(setting, found.problem, EXITS_VALIDATION, found.correction)
    for path in ("healthzBindAddress", "metricsBindAddress"):
        setting = settings.given(path)
        problem = values.endpoint(setting.value) if setting and setting.value else None
        if setting and problem:
            settings.reject(setting, problem.problem, EXITS_VALIDATION, problem.correction)
    setting = settings.given("portRange")
    problem = values.port_range(setting.value) if setting else None
    if setting and problem:
        settings.reject(setting, problem.problem, EXITS_VALIDATION, problem.correction)


def _choices(settings: Settings) -> None:
    setting = settings.given("detectLocalMode")
    known = [name for name, since in LOCAL_MODES.items() if since <= settings.version]
    if setting and setting.value and setting.value not in known:
        close = spelling.nearest(setting.value, known, 0.5) or "ClusterCIDR"
        problem = f"unknown detectLocalMode {shown(setting.value)}: must be {', '.join(known)}"
        settings.reject(setting, problem, EXITS_VALIDATION, close)
    elif setting and setting.value in ("BridgeInterface", "InterfaceNamePrefix"):
        path = f"detectLocal.{setting.value[0].lower()}{setting.value[1:]}"
        if not settings.get(path, ""):
            settings.report(
                f"detectLocalMode {path}", Severity.ERROR, f"missing {settings.name(path)}", Effect.EXITS,
                EXITS_VALIDATION,
                f"add {settings.written(path, 'NAME')}", setting.remove(),
            )  # fmt: skip
    setting = settings.given("logging.format")
    if setting and setting.value and setting.value not in ("text", "json"):
        settings.reject(
            setting, f"unknown logging format {shown(setting.value)}: must be text or json", EXITS_VALIDATION, "text"
        )
    setting = settings.given("showHiddenMetricsForVersion")
    if setting and setting.value:
        previous = f"{settings.version[0]}.{settings.version[1] - 1}"
        if setting.value != previous:
            problem = f"invalid version {shown(setting.value)}: must be {previous} or empty"
            settings.reject(setting, problem, EXITS_VALIDATION, "")


def _unused_section(settings: Settings) -> None:
    """Report settings of ipvs in a different mode that was chosen."""
    mode = mode_of(settings)
    if not settings.get("mode", "") or mode in ("ipvs", ""):
        return
    used = [item for item in settings.section("ipvs") if item.value and not _is_default(item)]
    if used:
        names = " ".join(item.path for item in used)
        settings.report(
            names, Severity.WARNING, f"no effect in {mode} mode", Effect.IGNORES,
            f"kube-proxy ignores the section ipvs in {mode} mode", f"remove it, or {settings.written('mode', 'ipvs')}",
        )  # fmt: skip


_RULES: tuple[Callable[[Settings], None], ...] = (
    _mode, _gates, _scheduler, _periods, _timeouts, _numbers, _networks, _addresses, _choices, _unused_section,
)  # fmt: skip
