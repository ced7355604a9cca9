"""ipvsd doctor kube-proxy-config: check a kube-proxy configuration, or correct it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

from ipvsd.commands import formatting, kube_proxy_file
from ipvsd.commands.output import print_errors, print_json, print_lines, print_text
from ipvsd.config.profiles import Version
from ipvsd.discovery import running
from ipvsd.kube_proxy.config_check import Result, Versions, check
from ipvsd.kube_proxy.config_fix import fix
from ipvsd.kube_proxy.findings import Finding, Severity
from ipvsd.kube_proxy.mode_rules import mode_of
from ipvsd.kube_proxy.node_comparison import Node
from ipvsd.runtime import http_client

_COLOURS = {Severity.ERROR: "31", Severity.WARNING: "33", Severity.NOTE: "0"}


def run(
    root: str,
    config_path: Optional[str],
    output: str,
    file: str,
    correct: bool = False,
    requested: Optional[Version] = None,
) -> int:
    """Exit 1 if the file has an error, and 0 otherwise. With `correct`, print the corrected file instead.

    Raises rootfs.UnreadableError.
    """
    data = kube_proxy_file.read(file)
    node, problems = kube_proxy_file.observe(root, config_path)
    configured = node.config.kube_proxy if node.config else None
    versions = Versions(requested, configured, None if requested else _running_version(root))
    print_errors(*(f"ipvsd: {problem}" for problem in problems))
    name = kube_proxy_file.shown(file)
    if correct:
        return _print_fixed(name, data, versions, node)
    result = check(data, versions, node)
    if output == "json":
        print_json(_as_document(name, result))
    else:
        print_lines(*_lines(name, result))
    return int(result.has_errors)


def _running_version(root: str) -> Optional[Version]:
    """Return the version of the kube-proxy that runs on this node, or None if there is none or it does not answer."""
    proxy = running.observe(root, http_client.get, thorough=True) if root == "/" else None
    return proxy.version if proxy else None


def _print_fixed(name: str, data: bytes, versions: Versions, node: Node) -> int:
    fixed = fix(data, versions, node)
    left = [found for found in fixed.result.findings if found.severity is Severity.ERROR]
    print_errors(*(f"ipvsd: cannot correct {name}:{found.line}: {found.problem}" for found in left))
    if fixed.text:
        print_text(fixed.text)
    return int(bool(left))


def _as_document(name: str, result: Result) -> dict[str, Any]:
    return {
        "file": name,
        "kube_proxy_version": "{}.{}".format(*result.version),
        "mode": _mode(result),
        "findings": [
            {
                "severity": found.severity.value,
                "line": found.line,
                "column": found.column,
                "key": found.key,
                "problem": found.problem,
                "effect": found.effect.value,
                "consequence": found.consequence,
                "correction": found.correction,
            }
            for found in result.findings
        ],
    }


def _mode(result: Result) -> Optional[str]:
    """Return the mode that the file selects, or None if that is unknown."""
    return (mode_of(result.deciding) if result.deciding else "") or None


def _lines(name: str, result: Result) -> Iterator[str]:
    version = "kube-proxy {}.{}".format(*result.version)
    for found in result.findings:
        yield from _finding(name, found)
    if result.findings:
        counts = [(sum(found.severity is severity for found in result.findings), severity) for severity in Severity]
        words = (f"{count} {severity.value}{'s' * (count > 1)}" for count, severity in counts if count)
        yield f"{', '.join(words)} ({version}{'' if result.version_known else ', assumed'})"
    else:
        mode, file = _mode(result), result.deciding.config_file if result.deciding else ""
        other = f", and reads its mode from {file}" if file else ""
        assumed = "" if result.version_known else " (assumed)"
        yield f"{name}: no findings: {version}{assumed} starts" + (f" in {mode} mode" if mode else other)


def _finding(name: str, found: Finding) -> Iterator[str]:
    place = f"{name}:{found.line}:{found.column}: "
    severity = found.severity.value
    key = f"{found.key}: " if found.key else ""
    first, *rest = formatting.folded(f"{place}{severity}: {key}{found.problem}")
    yield first.replace(f"{severity}:", f"{formatting.colour(severity, _COLOURS[found.severity])}:", 1)
    yield from rest
    yield from formatting.indented(found.consequence, 2, 2)
    yield from formatting.indented(f"-> {found.correction}", 2, 5)
