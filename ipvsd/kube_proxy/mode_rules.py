"""The rules of kube-proxy for its mode and its feature gates, which can enable a mode.

The sources are those of `config_rules` and `feature_gates`.
"""

from __future__ import annotations

import re
from typing import Optional

from ipvsd.config import spelling
from ipvsd.config.profiles import IPVS_OFF_BY_DEFAULT, IPVS_REMOVED
from ipvsd.config.value_readers import shown
from ipvsd.config.yaml_tree import Mapping
from ipvsd.kube_proxy import feature_gates, yaml_edits
from ipvsd.kube_proxy.config_fields import MODES, NFTABLES_BY_DEFAULT
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.k3s_config import ARGUMENTS
from ipvsd.kube_proxy.settings import EXITS_VALIDATION, Setting, Settings
from ipvsd.kube_proxy.source_text import Edit

_MAX_GUESSES = 10  # of the names of gates; a guess takes some milliseconds
_NFTABLES_KERNEL = "nftables (Linux 5.13 or later)"


def mode_of(settings: Settings) -> str:
    """Return the effective mode of kube-proxy, or an empty text if it is invalid, unknown or in another file."""
    setting = settings.known.get("mode")
    if settings.config_file or (setting is not None and setting.value is None):
        return ""
    mode = settings.get("mode", "") or "iptables"
    return mode if mode in MODES and MODES[mode][0] <= settings.version < MODES[mode][1] else ""


def check_mode(settings: Settings) -> None:
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
            settings.written("featureGates.NFTablesProxyMode", "true"), enable_gate(settings, "NFTablesProxyMode"),
        )  # fmt: skip


def _no_mode(settings: Settings, setting: Optional[Setting]) -> None:
    """Report an empty mode, which means iptables mode on Linux."""
    keys = [key for finding in settings.findings for key in finding.key.split(", ")]
    keys += settings.replaced
    keys += ["mode" for finding in settings.findings if "'mode'" in finding.correction]  # a misspelt key
    if any(re.sub("[^a-z]", "", key.rpartition(".")[2].lower()) in ("mode", "proxymode") for key in keys):
        return  # the mode is in the file, in another place or form
    used = [item for item in settings.section("ipvs") if item.value and not is_default(item)]
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


def is_default(setting: Setting) -> bool:
    """Return whether a setting of the section ipvs repeats the default."""
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
            enable_gate(settings, "KubeProxyIPVS"),
        )  # fmt: skip


def enable_gate(settings: Settings, name: str) -> tuple[Edit, ...]:
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


def check_gates(settings: Settings) -> None:
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
