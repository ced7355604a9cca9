"""Report several options in one item of kube-proxy-arg, or in one word of a command line."""

from __future__ import annotations

import re

from ipvsd.config.value_readers import shown
from ipvsd.kube_proxy.command_line import GivenOption
from ipvsd.kube_proxy.config_fields import OPTIONS
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.settings import EXITS_PARSING, Setting, Settings
from ipvsd.kube_proxy.source_text import Edit

# A further option after blanks or a comma, with dashes or a value. In YAML, "- " within a plain text does not begin an
# item. A match begins at the first of several blanks: otherwise, the search would take quadratic time.
_FURTHER = re.compile(r"(?<![\s,])[\s,]+(?:-\s+[\"']?)?(--?(?=[A-Za-z]))?([A-Za-z][A-Za-z_-]*)(?:(=)|(?=[\"'\s,])|\Z)")


def report(settings: Settings, option: GivenOption) -> bool:
    """Report the options that follow in the text of an option. Return whether there are some.

    The value of the first one is unknown then.
    """
    content = option.source.content[option.start : option.end]
    further = [
        match for match in _FURTHER.finditer(content)
        if match[2].replace("_", "-") in OPTIONS and (match[1] or match[3])
    ]  # fmt: skip
    if not further or not re.search(r"[\s,]", option.text):  # the value can be a word of its own
        return False
    names = [match[2].replace("_", "-") for match in further]
    first = OPTIONS.get(re.split(r"[=\s]", option.name)[0].replace("_", "-"))
    for known in (first, *(OPTIONS[name] for name in names)):
        if known:
            path = known.path or known.name
            settings.known[path] = Setting(path, known.name, option.source, option.start, None, option=option)
    folded = any(re.search(r"[\r\n][ \t]*-\s", match[0]) for match in further)
    if folded:
        place = option.start + further[0].start(2)
        problem = f"invalid YAML: wrong indentation: {shown(names[0])} continues the line before it"
        correction, edits = "indent the item as the one before it", _indented(option, further)
    else:
        place, problem = option.start, f"several options in one item: {shown(option.text)}"
        correction, edits = "write each option as an item of its own", _separated(option, further)
    key = names[0] if folded or not first else first.name
    settings.add(option.source, place, Severity.ERROR, key, problem, Effect.EXITS, EXITS_PARSING, correction, edits)
    return True


def _lead(option: GivenOption) -> str:
    """Return the text of the line before an option."""
    return option.source.content[option.source.line_start(option.start) : option.start]


def _indented(option: GivenOption, further: list[re.Match[str]]) -> tuple[Edit, ...]:
    lead = _lead(option)
    if lead.strip() != "-":
        return ()
    edits = []
    for match in further:
        dash = re.search(r"[\r\n]([ \t]*)-\s", match[0])
        if dash:
            start = option.start + match.start() + dash.start(1)
            edits.append(option.source.edit(start, start + len(dash[1]), lead[: lead.index("-")]))
    return tuple(edits)


def _separated(option: GivenOption, further: list[re.Match[str]]) -> tuple[Edit, ...]:
    lead, source = _lead(option), option.source
    opening = source.content[option.start]
    quote = opening if opening in ("'", '"') else ""
    if lead.strip() == "-":
        between = f"{quote}\n{lead}{quote}"
    elif "[" in lead and quote:
        between = f"{quote}, {quote}"
    else:
        return ()
    spans = [(option.start + match.start(), option.start + match.start(1 if match[1] else 2)) for match in further]
    if any(re.search(r"[\r\n\"']", source.content[start:end]) for start, end in spans):
        return ()
    return tuple(source.edit(start, end, between) for start, end in spans)
