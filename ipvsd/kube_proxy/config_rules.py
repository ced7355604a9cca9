"""The rules of kube-proxy for valid values, and the settings that it ignores.

Sources: pkg/proxy/apis/config/validation/validation.go, pkg/proxy/apis/config/v1alpha1/defaults.go and
cmd/kube-proxy/app/server_linux.go of Kubernetes 1.20 to 1.37.
"""

from __future__ import annotations

from collections.abc import Callable

from ipvsd.config import spelling
from ipvsd.config.profiles import SCHEDULERS
from ipvsd.config.value_readers import shown
from ipvsd.config.yaml_tree import Sequence
from ipvsd.kube_proxy import values, yaml_edits
from ipvsd.kube_proxy.config_fields import LOCAL_MODES, SCHEDULERS_BEFORE_1_27
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.mode_rules import check_gates, check_mode, enable_gate, is_default, mode_of
from ipvsd.kube_proxy.settings import EXITS_VALIDATION, Setting, Settings
from ipvsd.kube_proxy.source_text import Edit
from ipvsd.kube_proxy.values import Invalid, duration

SYNC_PERIOD = 30.0  # defaults.go
_SYNC_SHARED = (1, 32)  # since then, only the periods of the section of the mode count
_SCHEDULER_TRIED = (1, 27)  # kubernetes/kubernetes#114669: before, validation knows ten schedulers
_PRIMARY = (1, 28)  # nodePortAddresses: [primary]
_KEYWORDS = (1, 37)  # nodePortAddresses: [localhost, all]


def check(settings: Settings) -> None:
    """Report every value that kube-proxy rejects or ignores."""
    for rule in _RULES:
        rule(settings)


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
            settings.written("featureGates.IPv6DualStack", "true"), enable_gate(settings, "IPv6DualStack"),
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
    used = [item for item in settings.section("ipvs") if item.value and not is_default(item)]
    if used:
        names = " ".join(item.path for item in used)
        settings.report(
            names, Severity.WARNING, f"no effect in {mode} mode", Effect.IGNORES,
            f"kube-proxy ignores the section ipvs in {mode} mode", f"remove it, or {settings.written('mode', 'ipvs')}",
        )  # fmt: skip


_RULES: tuple[Callable[[Settings], None], ...] = (
    check_mode, check_gates, _scheduler, _periods, _timeouts, _numbers, _networks, _addresses, _choices,
    _unused_section,
)  # fmt: skip
