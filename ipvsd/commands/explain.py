"""ipvsd explain: all facts about one sysctl, module, parameter or interface, and all programs that set it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from ipvsd.commands import formatting
from ipvsd.commands.explanation import Explanation, NoKernelError, explain
from ipvsd.commands.output import EX_CANNOT_TELL, print_errors, print_json, print_lines
from ipvsd.commands.subjects import UNKNOWN_BEFORE_BOOT, Kind, NoNameError
from ipvsd.config import config_files
from ipvsd.config.value_readers import shown
from ipvsd.conflicts.external_setting import APPLIED_WHEN, Effect, ExternalSetting, Program
from ipvsd.model import printable
from ipvsd.model.types import RootKind
from ipvsd.model.value_texts import text_of
from ipvsd.reporting import status_document

_WRITERS = ("pid", "comm", "unit", "container", "pod")


def run(root: str, config_path: Optional[str], output: str, name: str) -> int:
    """Exit 0 if it is compliant and no file contradicts, 1 if not, 2 if that is unknown, 64 for an unknown name."""
    try:
        found = explain(root, config_files.load(root, config_path), name)
    except NoNameError as error:
        print_errors(f"ipvsd: cannot explain {shown(name)}: {error}")
        return os.EX_USAGE
    except NoKernelError as error:
        print_errors(f"ipvsd: cannot check {root}: {error} (install a kernel in the image)")
        return EX_CANNOT_TELL
    document = _document(found)
    remedy = " (run 'systemctl start ipvsd')" if root == "/" else ""
    unknown = "the daemon's status cannot be read" if found.unusable else f"the daemon is not running{remedy}"
    if output == "json":
        print_json(document)
    else:
        print_lines(*_lines(printable.clean_document(document), unknown))
    if found.unusable:
        print_errors(f"ipvsd: cannot read the daemon's status: {found.unusable}")
    return found.exit_code


def _document(found: Explanation) -> dict[str, Any]:
    subject = found.subject
    return {
        "requested_name": found.requested_name or subject.name,
        "name": subject.name,
        "kind": subject.kind.value,
        "root_kind": found.root_kind.value,
        "kernel": found.release,
        "managed": bool(subject.findings),
        "actual": subject.actual,
        "evidence": subject.evidence,
        "finding": status_document.encode_finding(subject.finding) if subject.finding else None,
        "sysctls": [status_document.encode_finding(part) for part in subject.parts],
        "reasons": [{"origin": origin, "reason": reason} for origin, reason in found.reasons],
        "default": {"value": found.default[0], "source": found.default[1]} if found.default else None,
        "status_available": found.daemon,
        "repair": found.repair,
        "contended": found.contended,
        "settings": [_setting(item, found.complies(item)) for item in found.conflicts.settings],
        "unreadable_files": [
            {"file": file, "reason": reason} for file, reason in found.conflicts.unreadable_files.items()
        ],
        "notes": list(found.notes),
    }


def _setting(setting: ExternalSetting, compliant: Optional[bool]) -> dict[str, Any]:
    return {
        "name": setting.name,
        "effect": setting.effect.value,
        "program": setting.program.value,
        "applied_when": APPLIED_WHEN[setting.program],
        "origin": setting.origin,
        "text": setting.text,
        "value": setting.value if setting.effect is Effect.SETS else None,
        "effective": setting.effective,
        "certain": setting.certain,
        "failure": setting.failure,
        "inactive": setting.inactive,
        "compliant": compliant,
        "remedy": setting.remedy,
    }


def _lines(document: Mapping[str, Any], unknown: str) -> Iterator[str]:
    """Yield the lines for people. `unknown` is the reason why nothing is known from the daemon, or empty."""
    yield from formatting.situation(document)
    if document["requested_name"] != document["name"]:
        yield from formatting.folded(f"{document['requested_name']!r} is {document['name']}")
    yield from _head(document)
    if document["sysctls"]:
        yield ""
        yield "SYSCTLS"
        yield from formatting.values(document["sysctls"])
    yield from formatting.notes(document)
    yield from _desired(document)
    if document["default"]:
        yield ""
        yield "KERNEL DEFAULT"
        yield from formatting.indented("{value} ({source})".format(**document["default"]), 2, 6)
    if document["root_kind"] != RootKind.FIRST_BOOT.value:
        yield ""
        yield "LAST CHANGED BY"
        yield from _last(document, unknown)
    yield ""
    yield "SETTINGS ON DISK, IN ORDER OF APPLICATION"
    yield from _on_disk(document)


def _head(document: Mapping[str, Any]) -> Iterator[str]:
    finding, live = document["finding"], document["actual"] or "-"
    named = document["kind"] in ("module", "interface")
    live = text_of(live) if named else live
    subject = f"{document['kind']} {document['name']}" if named else f"{document['name']} = {live}"
    verdict = text_of(finding["verdict"]) if finding else "not managed by ipvsd"
    if document["kind"] == "interface":
        verdict = document["actual"] or UNKNOWN_BEFORE_BOOT
    elif not finding and named:
        verdict = f"{live}, {verdict}"
    code = "0" if not finding else "32" if finding["compliant"] else "0" if finding["tolerated"] else "31"
    yield from formatting.folded(f"{subject}: {verdict}", code)
    if not finding or not finding["compliant"]:
        yield from formatting.indented(document["evidence"], 2, 2)
    if finding and finding["remedy"]:
        yield from formatting.indented(f"-> {finding['remedy']}", 2, 2)


def _desired(document: Mapping[str, Any]) -> Iterator[str]:
    finding = document["finding"]
    if finding is None:
        return
    yield ""
    yield "DESIRED"
    words = [finding.get("desired", "live"), "required" if finding["required"] else "optional"]
    if finding.get("policy", "enforce") != "enforce":
        words.append(finding["policy"])
    yield from formatting.indented(", ".join(words), 2, 2)
    for reason in document["reasons"]:
        yield from formatting.indented(f"{reason['origin']}{': ' if reason['reason'] else ''}{reason['reason']}", 2, 6)


def _last(document: Mapping[str, Any], unknown: str) -> Iterator[str]:
    yield from _last_repair(document, unknown)
    contention = document["contended"]
    if contention:
        yielded = contention.get("yielded") is True
        then = f"ipvsd {'leaves the sysctl to that program' if yielded else 'writes the sysctl only once per resync'}"
        by = formatting.describe_attribution(contention, contention["conflicting_program"])
        yield from formatting.indented(f"changed repeatedly {by}: {then}", 6, 6)


def _last_repair(document: Mapping[str, Any], unknown: str) -> Iterator[str]:
    repair = document["repair"]
    if repair is None:
        line = "the daemon has observed no change" if document["status_available"] else f"unknown: {unknown}"
        yield from formatting.indented(line, 2, 4)
        return
    at = str(repair.get("time", ""))[:19]
    writer, writer_text = repair.get("writer"), repair.get("writer_text")
    duration = repair.get("seconds")
    within = f" in {duration * 1000:.0f} ms" if isinstance(duration, float) else ""
    change = f"{at}Z  {repair.get('desired')} -> {repair.get('actual')}, repaired{within}"
    yield from formatting.indented(change, 2, 6)
    identity = [f"{key} {writer[key]}" for key in _WRITERS if writer.get(key)] if isinstance(writer, dict) else []
    name = ", ".join(identity) or writer_text or "unknown"
    yield from formatting.indented(formatting.describe_attribution(repair, name), 6, 6)


def _on_disk(document: Mapping[str, Any]) -> Iterator[str]:
    settings: Sequence[Mapping[str, Any]] = document["settings"]
    if not settings:
        yield "  ipvsd found no settings for this item"
    for program, when in dict.fromkeys((item["program"], item["applied_when"]) for item in settings):
        yield from formatting.indented(f"{text_of(program)}, {when}:", 2, 4)
        for item in settings:
            if item["program"] == program:
                yield from _row(item, document)
    for item in document["unreadable_files"]:
        yield from formatting.indented(f"? cannot read {item['file']}: {item['reason']}", 4, 8)


def _row(item: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    # The program that manages an interface matters, even if none of its sysctls is managed.
    mark, code, words = _assess_setting(item, document["managed"] or document["kind"] == Kind.INTERFACE.value)
    about = f"of {item['name']}: " if item["name"] != document["name"] else ""
    text = f"{about}{item['text']}"
    fits = len(item["origin"]) + len(text) + len(words) <= formatting.WIDTH - 12
    yield f"    {formatting.colour(mark, code)} {item['origin']}{f'  {text}  ({words})' if fits else ''}"
    if not fits:
        yield from formatting.indented(f"{text}  ({words})", 8, 8)
    if mark in "!?" and item["remedy"]:
        yield from formatting.indented(f"-> {item['remedy']}", 8, 11)


_EFFECTS = {
    Effect.LOADS.value: "loads the module",
    Effect.BLOCKS.value: "blocks the module",
    Effect.UNLOADS.value: "unloads the module",
    Effect.RUNS.value: "runs this command instead of loading the module",
}
_TAKES_ADDRESSES = "can remove the service addresses from it"
# For settings that leave the item compliant.
_INTERFERES = {
    Program.MODPROBE.value: "no effect: modprobe loads the module as a dependency of a managed module",
    Program.NETWORKD.value: f"systemd-networkd manages kube-ipvs0, and {_TAKES_ADDRESSES}",
    Program.NETWORK_MANAGER.value: f"NetworkManager manages kube-ipvs0, and {_TAKES_ADDRESSES}",
}


def _assess_setting(item: Mapping[str, Any], concerns: bool) -> tuple[str, str, str]:
    """Return the mark of a setting, its colour, and its effect."""
    if item["failure"]:
        return "!", "31", f"fails: {item['failure']}"
    if item["inactive"]:
        return "-", "0", f"no effect: {item['inactive']}"
    if not item["effective"]:
        return "-", "0", "a later line replaces it"
    if item["effect"] == Effect.INTERFERES.value:
        return "?" if concerns else "-", "0", _INTERFERES[item["program"]]
    does = _EFFECTS.get(item["effect"], "takes effect")
    if not concerns:
        return "-", "0", does
    if item["compliant"] is None:
        return "?", "33", "effect unknown" if item["effect"] == Effect.SETS.value else f"{does}; effect unknown"
    if item["effect"] != Effect.SETS.value:
        return ("+", "32", does) if item["compliant"] else ("!", "31", does)
    return ("+", "32", f"{does}; compliant") if item["compliant"] else ("!", "31", f"{does}; not compliant")
