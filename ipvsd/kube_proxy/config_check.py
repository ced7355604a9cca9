"""Check a file with configurations of kube-proxy: the entry point of this package.

`check` never raises for any content of the file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional, Union

from ipvsd.config.confusables import describe_character
from ipvsd.config.keys import SETTINGS
from ipvsd.config.profiles import IPVS_OFF_BY_DEFAULT, Version
from ipvsd.config.value_readers import SettingError, shown
from ipvsd.config.yaml_tree import MAX_BYTES, Scalar
from ipvsd.kube_proxy import (
    config_formats,
    config_rules,
    document_settings,
    misplaced_settings,
    node_comparison,
    option_settings,
    yaml_edits,
    yaml_repair,
)
from ipvsd.kube_proxy.command_line import CommandLine
from ipvsd.kube_proxy.config_fields import KIND
from ipvsd.kube_proxy.config_formats import ConfigDocument, Contents, Unparsable
from ipvsd.kube_proxy.findings import Effect, Finding, Severity, finding
from ipvsd.kube_proxy.node_comparison import Node
from ipvsd.kube_proxy.settings import Settings
from ipvsd.kube_proxy.source_text import Edit, SourceText

# The newest version that has IPVS mode by default.
DEFAULT_VERSION: Version = (IPVS_OFF_BY_DEFAULT[0], IPVS_OFF_BY_DEFAULT[1] - 1)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")  # invalid in YAML and on terminals
_MAX_FINDINGS = 300
_MAX_PARTS = 300  # of a file; those of real ones have about ten
_MAX_LINES = 20  # lines that are reported for characters that resemble ASCII characters


@dataclass(frozen=True)
class Versions:
    """The version of kube-proxy from several sources. The first known one applies; that of the file is second."""

    requested: Optional[Version] = None
    configured: Optional[Version] = None
    running: Optional[Version] = None


@dataclass(frozen=True)
class Result:
    """The findings of a file, the most severe first, and the version and the text that they are about."""

    version: Version
    version_known: bool  # it is not the default
    text: str
    findings: tuple[Finding, ...]
    settings: tuple[Settings, ...]

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def deciding(self) -> Optional[Settings]:
        """Return the settings that contain the mode. They are those of a command line with --config if nothing else is.

        A file can contain both, such as a DaemonSet and its ConfigMap.
        """
        return next((found for found in self.settings if not found.config_file), next(iter(self.settings), None))


def parse_version(text: str) -> Version:
    """Return a version of Kubernetes. Raises SettingError."""
    found = SETTINGS["kubeProxyVersion"][1](Scalar("str", text.strip(), 0))
    assert isinstance(found, tuple)  # a string is never null
    return found


def check(data: bytes, versions: Versions, node: Node) -> Result:
    """Return the findings of a file."""
    unusable = _undecodable(data)
    if unusable:
        place, problem, correction = unusable
        before = SourceText(data[:place].decode("utf-8-sig"))
        unreadable = finding(
            before, len(before.content), "", problem, "kube-proxy exits: it cannot read the file", correction
        )
        return Result(versions.requested or DEFAULT_VERSION, False, "", (unreadable,), ())
    text = data.decode("utf-8-sig")
    source = SourceText(text)
    contents = config_formats.read(source)
    findings: list[Finding] = []
    known = _version(versions, contents, source, findings)
    version = known or DEFAULT_VERSION
    users, calico = node_comparison.mentions(contents.other_texts)
    node = dataclasses.replace(
        node,
        strict_arp_users=(
            *node.strict_arp_users,
            *(user for user in users if user not in " ".join(node.strict_arp_users)),
        ),
        calico=node.calico or calico,
    )
    everything: list[Settings] = []
    duplicates = _duplicates(contents)
    for part in contents.parts[:_MAX_PARTS]:
        if isinstance(part, ConfigDocument) and part in duplicates:
            findings.append(duplicates[part])
        elif isinstance(part, (ConfigDocument, CommandLine)):
            settings = _settings(part, version, node)
            everything.append(settings)
            findings += settings.findings
        elif isinstance(part, Unparsable):
            findings.append(_unparsable(part))
        else:
            findings.append(misplaced_settings.report(part))
    findings += _confusables(contents, everything)
    order = list(Severity)
    ordered = sorted(dict.fromkeys(findings), key=lambda found: (order.index(found.severity), found.line, found.column))
    return Result(version, known is not None, text, tuple(ordered[:_MAX_FINDINGS]), tuple(everything))


def _undecodable(data: bytes) -> Optional[tuple[int, str, str]]:
    """Return the place, the problem and the correction of a file that is not text, or None."""
    if len(data) > MAX_BYTES:
        return 0, f"the file is larger than {MAX_BYTES} bytes", "give only the configuration of kube-proxy"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return 0, "invalid UTF-8: the file seems to be UTF-16", "save the file as UTF-8"
    if b"\0" in data:
        return 0, "the file is binary", "give a text file"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start, f"invalid UTF-8: byte 0x{data[error.start]:02x}", "save the file as UTF-8"
    control = _CONTROL.search(text)
    if control:
        place = len(text[: control.start()].encode())
        return place, f"invalid control character U+{ord(control[0]):04X}", "remove the character"
    return None


def _version(versions: Versions, contents: Contents, source: SourceText, findings: list[Finding]) -> Optional[Version]:
    own = None
    if contents.version:
        try:
            own = parse_version(contents.version)
        except SettingError as error:
            findings.append(
                finding(
                    source,
                    contents.version_place,
                    "kubeProxyVersion",
                    f"kubeProxyVersion {error.problem}",
                    "none: ipvsd checks the file for another version",
                    error.hint,
                    (),
                    Severity.WARNING,
                    Effect.NONE,
                )
            )
    known = (versions.requested, own, versions.configured, versions.running)
    return next((version for version in known if version), None)


def _settings(part: Union[ConfigDocument, CommandLine], version: Version, node: Node) -> Settings:
    if isinstance(part, ConfigDocument):
        settings = document_settings.decode(part, version)
    else:
        settings = option_settings.decode(part, version)
        if settings.config_file:  # it sets the other fields
            return settings
    modules = node.config.modules if node.config else {}
    settings.schedulers = frozenset(
        name[len("ip_vs_") :] for name, setting in modules.items() if name.startswith("ip_vs_") and not setting.dropped
    )
    config_rules.check(settings)
    node_comparison.compare(settings, node)
    return settings


def _confusables(contents: Contents, everything: list[Settings]) -> Iterator[Finding]:
    """Yield one finding for each line with characters that resemble ASCII characters."""
    names = {
        setting.source.position(setting.start)[0]: setting.name
        for settings in everything for setting in settings.known.values() if setting.name not in ("featureGates", "")
    }  # fmt: skip
    lines: dict[int, list[tuple[SourceText, int, str]]] = {}
    for source, place, text in contents.confusables:
        lines.setdefault(source.position(place)[0], []).append((source, place, text))
    for line, signs in list(lines.items())[:_MAX_LINES]:
        source, place, text = signs[0]
        sign, start = source.content[place], source.line_start(place)
        match = re.search(r"[A-Za-z][\w./-]*", source.content[start : source.line_end(place)])
        action = f"replace the character with {shown(text)}" if text else "remove the character"
        if len(signs) > 1:
            action = f"write the line in ASCII: {_as_ascii(source, start, signs).strip()}"
        yield finding(
            source, place, names.get(line, match[0] if match else f"line {line}"),
            f"invalid character {describe_character(sign)}", "kube-proxy exits, or does not know the key",
            action, tuple(owner.edit(at, at + 1, new) for owner, at, new in signs),
        )  # fmt: skip


def _as_ascii(source: SourceText, start: int, signs: list[tuple[SourceText, int, str]]) -> str:
    places = {place: text for _, place, text in signs}
    end = source.line_end(start)
    return "".join(places.get(place, source.content[place]) for place in range(start, end))[:200]


def _unparsable(part: Unparsable) -> Finding:
    found = yaml_repair.explain(part.source.content, part.error)
    starts = [0, *(match.end() for match in re.finditer("\n", part.source.content))]
    start = starts[min(found.line, len(starts) - 1)]
    end = part.source.line_end(start)
    edits = () if found.text is None else (part.source.edit(start, end, found.text),)
    consequence, effect = "kube-proxy exits with a YAML error", Effect.EXITS
    if not part.in_config:
        consequence, effect = "kubectl and kubeadm reject the file, and kube-proxy does not get it", Effect.IGNORES
    correction = found.text.strip() if found.text else "correct the line"
    place = min(start + found.column, end)
    key = found.key or f"line {part.source.position(place)[0]}"
    return finding(part.source, place, key, found.problem, consequence, correction, edits, effect=effect)


def _duplicates(contents: Contents) -> Mapping[ConfigDocument, Finding]:
    """Return a finding for all but the first document for kube-proxy in one text."""
    first: dict[int, ConfigDocument] = {}
    found: dict[ConfigDocument, Finding] = {}
    for part in contents.parts:
        if not isinstance(part, ConfigDocument):
            continue
        before = first.setdefault(id(part.source), part)
        if before is part:
            continue
        line, _ = part.source.position(before.root.span.start)
        pair = config_formats.lookup_pair(part.root, "kind")
        place = pair[0].span.start if pair else part.root.span.start
        found[part] = finding(
            part.source, place, "kind", f"duplicate {KIND}: the first one begins in line {line}",
            "kube-proxy reads only the first document, and kubeadm rejects the file", "keep one document",
            _commented(part), effect=Effect.IGNORES,
        )  # fmt: skip
    return found


def _commented(part: ConfigDocument) -> tuple[Edit, ...]:
    return tuple(
        edit
        for number in range(len(part.root.items))
        if not part.root.span.style
        for edit in yaml_edits.comment_out(part.source, part.root, number)
    )
