"""Report places of a file that contain no usable configuration of kube-proxy, with the effect of each."""

from __future__ import annotations

import functools
import re
from typing import Optional

from ipvsd.config.value_readers import shown
from ipvsd.config.yaml_tree import Mapping, Node, Scalar
from ipvsd.kube_proxy import config_formats, yaml_edits
from ipvsd.kube_proxy.config_fields import API_VERSION, KIND
from ipvsd.kube_proxy.config_formats import Misplaced
from ipvsd.kube_proxy.findings import Effect, Finding, Severity, finding
from ipvsd.kube_proxy.k3s_config import ARGUMENTS
from ipvsd.kube_proxy.source_text import Edit, SourceText, lines_of


def report(part: Misplaced) -> Finding:
    """Return the finding about a place."""
    of_k3s = _of_k3s(part)
    if of_k3s:
        return of_k3s
    place, found = part.place, functools.partial(finding, part.source, part.place, part.key)
    if part.kind == "chart":
        return found(
            f"{part.detail} is not supported: its values are not kube-proxy's configuration",
            "unknown: the chart decides", "check the rendered ConfigMap", (), Severity.WARNING, Effect.NONE,
        )  # fmt: skip
    if part.kind == "kubeconfig":
        return found(
            "this file is a kubeconfig, and not the configuration of kube-proxy",
            "kube-proxy exits: the kind Config is not registered",
            "set clientConnection.kubeconfig to its path, and give --config a KubeProxyConfiguration",
        )  # fmt: skip
    if part.kind == "no config.conf":
        return found(
            f"missing {part.key}: the ConfigMap contains no {KIND}",
            "kube-proxy exits: it finds no file", f"add {part.key} with a {KIND}",
        )  # fmt: skip
    if part.kind == "kubeadm":
        return found(
            "unknown key 'kubeProxy': kubeadm has not read it since v1alpha3",
            "kube-proxy never gets the setting: its ConfigMap has an empty mode",
            f"use a separate {KIND} document", _separated(part.source, place), effect=Effect.IGNORES,
        )  # fmt: skip
    if part.kind == "default of kubeadm":
        return finding(
            part.source, place, "mode", f"missing {KIND}: kubeadm creates one with an empty mode",
            "kube-proxy starts in iptables mode", f"add a document with 'kind: {KIND}' and 'mode: ipvs'", (),
            Severity.WARNING, Effect.OTHER_MODE,
        )  # fmt: skip
    if part.kind == "folded":
        return found(
            "invalid block scalar: '>' joins the lines, so they are not YAML",
            "kube-proxy exits with a YAML error", f"write {part.key.partition('.')[2]}: |",
            (part.source.edit(place, place + 1, "|"),),
        )  # fmt: skip
    if part.kind == "outside":
        return found(
            f"{part.key} is outside of the text of the configuration",
            "kube-proxy never gets the setting", "indent the line as the others of that text",
            _indented(part.source, place) if part.detail else (), effect=Effect.IGNORES,
        )  # fmt: skip
    if part.kind == "no options":
        return found(
            "no options of kube-proxy in the file", "none: it does not start kube-proxy",
            "give the file with the options or the configuration of kube-proxy", effect=Effect.NONE,
        )  # fmt: skip
    problems = {
        "not a map": "invalid document: expected KEY: VALUE",
        "empty": "the configuration is empty",
        "nothing": f"no configuration of kube-proxy in the file, only {part.detail}",
    }
    correction = f"give a file with 'apiVersion: {API_VERSION}' and 'kind: {KIND}'"
    return found(problems[part.kind], "kube-proxy exits: the kind is missing", correction)


def _of_k3s(part: Misplaced) -> Optional[Finding]:
    """Return the finding about a place in a file of k3s or RKE2, or None."""
    found = functools.partial(finding, part.source, part.place, part.key)
    if part.kind == "disabled":
        return found(
            "kube-proxy is disabled: its arguments have no effect",
            "kube-proxy does not run", "remove disable-kube-proxy or kube-proxy-arg", (), Severity.WARNING,
            Effect.IGNORES,
        )  # fmt: skip
    if part.kind == "replaced":
        return found(
            f"{part.key} has no effect: line {part.detail} replaces its value",
            "k3s and RKE2 ignore these arguments", f"write {ARGUMENTS}+ in line {part.detail}, or join the lists",
            part.edits, effect=Effect.IGNORES,
        )  # fmt: skip
    if part.kind == "misspelt":
        return found(
            f"unknown key {shown(part.key)}",
            "k3s and RKE2 ignore the key, and kube-proxy starts without these arguments", f"write {part.detail}",
            part.edits, effect=Effect.IGNORES,
        )  # fmt: skip
    if part.kind == "no arguments":
        form = f'{ARGUMENTS}: ["proxy-mode=ipvs"]' if part.detail == "config.yaml" else f"--{ARGUMENTS}=proxy-mode=ipvs"
        return found(
            f"missing {part.key}: k3s and RKE2 use iptables mode by default",
            "kube-proxy starts in iptables mode, if no other file of k3s or RKE2 sets a mode", f"add {form}", (),
            Severity.WARNING, Effect.OTHER_MODE,
        )  # fmt: skip
    if part.kind == "not an argument":
        return found(
            "invalid type: expected a string such as \"proxy-mode=ipvs\"",
            "k3s exits: it cannot read its configuration", 'write "NAME=VALUE"',
        )  # fmt: skip
    return None


def _indented(source: SourceText, place: int) -> tuple[Edit, ...]:
    """Return the edit that indents a line as the line before it, if that is longer indented."""
    start = source.line_start(place)
    before = next((line for line in reversed(lines_of(source.content[:start])) if line.strip()), "")
    missing = len(before) - len(before.lstrip(" ")) - (place - start)
    return (source.edit(place, place, " " * missing),) if missing > 0 else ()


@functools.lru_cache(maxsize=1)  # a file can contain several places
def _documents(text: str) -> tuple[Optional[Node], ...]:
    return tuple(config_formats.parse(text)[0])


def _separated(source: SourceText, place: int) -> tuple[Edit, ...]:
    """Return the edits that make a separate document of the configuration under kubeProxy."""
    roots = _documents(source.content)
    for root in roots:
        if not isinstance(root, Mapping) or root.span.style:
            continue
        numbers = [number for number, (key, _) in enumerate(root.items) if key.span.start == place]
        config = config_formats.lookup(root.items[numbers[0]][1], "config") if numbers else None
        if not numbers:
            continue
        removed = yaml_edits.remove(source, root, numbers[0])
        kinds = [config_formats.lookup(other, "kind") for other in roots]
        if not removed or any(isinstance(kind, Scalar) and kind.text == KIND for kind in kinds):
            return yaml_edits.comment_out(source, root, numbers[0])
        end = len(source.content[: yaml_edits.last_place(root)].rstrip())
        given = {key.text for key, _ in config.items} if isinstance(config, Mapping) else set()
        head = {"apiVersion": API_VERSION, "kind": KIND}
        lines = [f"{key}: {text}" for key, text in head.items() if key not in given]
        if isinstance(config, Mapping) and not config.span.style and config.items:
            start = config.items[0][0].span.start
            indent = start - source.line_start(start)
            body = source.content[start - indent : yaml_edits.last_place(config)]
            lines += [line[indent:] for line in re.split("\r?\n", body)]
        elif config is not None:
            return ()
        document = "\n".join(("---", *lines))
        return (*removed, source.insert_line(end, document))
    return ()
