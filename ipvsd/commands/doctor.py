"""ipvsd doctor: all findings about this node and its kube-proxy, the most severe first. Changes nothing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from ipvsd.boot import installed_kernels, next_boot
from ipvsd.commands import formatting, kube_proxy_line
from ipvsd.commands.check import adapt_remedies, make_report, observe
from ipvsd.commands.output import EX_CANNOT_TELL, print_errors, print_json, print_lines
from ipvsd.config import config_files
from ipvsd.config.profiles import IPTABLES_LEGACY, IPTABLES_NFT
from ipvsd.config.schema import Config
from ipvsd.discovery.running import Get
from ipvsd.discovery.unit_log import Run
from ipvsd.doctor import (
    boot,
    bundle,
    conntrack,
    containment,
    daemon,
    denials,
    interfaces,
    items,
    kube_proxy,
    observation,
    programs,
    remains,
)
from ipvsd.doctor.finding import Finding, Severity, by_severity, exit_code
from ipvsd.doctor.observation import Facts
from ipvsd.kernel.roots import classify_root
from ipvsd.kube_proxy import known_values
from ipvsd.model import printable
from ipvsd.model.report import Report
from ipvsd.model.types import RootKind
from ipvsd.runtime import command_output, http_client, rootfs

GUIDE = "/usr/share/doc/ipvsd/docs/troubleshooting.md"  # in the .deb and the .rpm
_COLOURS = {Severity.ERROR: "31", Severity.UNKNOWN: "33", Severity.WARNING: "33", Severity.NOTE: "0"}
_NODE = "ipvsd: cannot examine {}: {} (run the command on a node, or use 'ipvsd check' and 'ipvsd preflight')"


def run(root: str, config_path: Optional[str], output: str, bundle_file: Optional[str]) -> int:
    """Exit 0 without errors, 1 if there is one, 2 if something required is unknown.

    With `bundle_file`, also write the data for a bug report. Exit 74 if that fails.
    """
    if classify_root(root) is RootKind.FIRST_BOOT:
        print_errors(_NODE.format(root, "no kernel is running"))
        return EX_CANNOT_TELL
    config = config_files.load(root, config_path)
    live = root == "/"
    diagnosis = diagnose(root, config, http_client.get if live else None, command_output.run if live else None)
    if diagnosis is None:
        return EX_CANNOT_TELL
    document = build_document(diagnosis, config)
    if output == "json":
        print_json(document)
    else:
        print_lines(*text_lines(diagnosis, printable.clean_document(document)))
    if bundle_file is not None:
        try:
            _write_bundle(bundle_file, bundle.build(root, config, document, diagnosis.report, diagnosis.facts))
        except OSError as error:
            print_errors(f"ipvsd: cannot write {bundle_file}: {error.strerror}")
            return os.EX_IOERR
        print_errors(f"ipvsd: wrote {bundle_file} (read the files in it before you publish it)")
    return exit_code(diagnosis.findings)


def _write_bundle(path: str, data: bytes) -> None:
    """Write a file for this user alone. Raises OSError."""
    rootfs.write("/", os.path.abspath(path).lstrip("/"), data, durable=True, mode=0o600)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings, the most severe first, with the facts and the report on which they are based."""

    findings: Sequence[Finding]
    facts: Facts
    report: Report


def diagnose(root: str, config: Config, get: Optional[Get] = None, run: Optional[Run] = None) -> Optional[Diagnosis]:
    """Examine the node whose files are under a root.

    Without `get` and `run`, as for a root other than /, kube-proxy is not asked, and no program is run.
    """
    found = observe(root, config)
    if found is None:
        return None
    facts = observation.observe(root, found.kernel, get, run)
    report = make_report(root, found.kernel, found.plan, found.notes)
    plan = adapt_remedies(found.plan, root)
    predicted = next_boot.predict(root, found.kernel, next_boot.names_of(plan))
    installed = installed_kernels.assess_all(root, config)
    ipvs = facts.remains.mode == known_values.IPVS
    # Causes before effects: of findings with the same severity, the first is reported first.
    findings = [
        *containment.findings(facts.place, found.kernel.restrictions),
        *items.findings(plan),
        *programs.findings(facts.programs, found.kernel, facts.known_modules, (IPTABLES_NFT, IPTABLES_LEGACY)),
        *kube_proxy.findings(facts.proxy, config),
        *daemon.findings(facts.daemon),
        *interfaces.findings(facts.interface, predicted.settings, ipvs),
        *remains.findings(facts.remains),
        *conntrack.findings(facts.conntrack, config),
        *denials.findings(facts.denials),
        *boot.files(predicted, plan),
        *boot.kernels(installed, found.kernel.release),
        *boot.failing_lines(found.notes),
    ]
    return Diagnosis(by_severity(findings), facts, report)


def build_document(diagnosis: Diagnosis, config: Config) -> dict[str, Any]:
    """Return the diagnosis as values for JSON. Later versions only add keys."""
    return {
        "state": diagnosis.report.health.state.value,
        "summary": diagnosis.report.health.summary,
        "kernel": diagnosis.report.kernel.release,
        "root_kind": diagnosis.report.root_kind.value,
        "findings": [
            {**dataclasses.asdict(found), "severity": found.severity.value, "evidence": list(found.evidence)}
            for found in diagnosis.findings
        ],
        "kube_proxy": kube_proxy_line.document(
            diagnosis.facts.proxy.proxy,
            diagnosis.facts.proxy.table,
            diagnosis.facts.proxy.interface,
            kube_proxy_line.managed_by(diagnosis.report, config.profiles),
        ),
        "unchecked": [*diagnosis.facts.unchecked, *diagnosis.facts.missing],
    }


def text_lines(diagnosis: Diagnosis, document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for people. A healthy node has one, also without programs that could read more."""
    proxy = kube_proxy_line.text(document["kube_proxy"], hint="")
    if not document["findings"]:
        line = f"no problem found: {document['summary']}; {proxy or 'kube-proxy does not run'}"
        yield formatting.colour(line, "32")  # one line, also in a pipe
    else:
        yield from formatting.folded(_counts(diagnosis.findings))
        yield from filter(None, [proxy])
    for item in document["findings"]:
        yield ""
        yield from _finding(item)
    reasons = document["unchecked"][: len(diagnosis.facts.unchecked)]  # the others are no problem of this node
    if reasons:
        yield ""
        yield "not checked:"
        for reason in reasons:
            yield from formatting.indented(reason, 2, 4)


def _counts(findings: Sequence[Finding]) -> str:
    numbers = [(item, sum(found.severity is item for found in findings)) for item in Severity]
    return ", ".join(_PLURAL[item].format(number, "" if number == 1 else "s") for item, number in numbers if number)


_PLURAL = {
    Severity.ERROR: "{} error{}",
    Severity.UNKNOWN: "{} unknown",
    Severity.WARNING: "{} warning{}",
    Severity.NOTE: "{} note{}",
}


def _finding(item: dict[str, Any]) -> Iterator[str]:
    code = _COLOURS[Severity(item["severity"])]
    yield from formatting.folded(f"{item['severity']}: {item['summary']}", code)
    for line in item["evidence"]:
        yield from formatting.indented(line, 4, 6)
    if item["explanation"]:
        yield from formatting.indented(f"why: {item['explanation']}", 2, 4)
    if item["fix"]:
        yield from formatting.indented(f"-> {item['fix']}", 2, 5)
    if item["section"]:
        yield from formatting.indented(f'see "{item["section"]}" in {GUIDE}', 2, 4)
