"""Decode the options of a command line of kube-proxy, and report what it rejects or ignores.

kube-proxy exits if an option is unknown, or if a word is not an option. With --config, it ignores most options
(Options.Complete in cmd/kube-proxy/app/options.go).
"""

from __future__ import annotations

import functools
import re
from typing import Any, Optional, Union

from ipvsd.config import spelling
from ipvsd.config.profiles import Version
from ipvsd.config.value_readers import shown
from ipvsd.kube_proxy import joined_options, values
from ipvsd.kube_proxy.command_line import CommandLine, GivenOption, Word
from ipvsd.kube_proxy.config_fields import OPTIONS, Option, Type
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.k3s_config import ARGUMENTS
from ipvsd.kube_proxy.settings import EXITS_PARSING, Setting, Settings, remove_option
from ipvsd.kube_proxy.source_text import Edit, SourceText
from ipvsd.kube_proxy.values import Invalid

_TRUE, _FALSE = "1 t T TRUE true True".split(), "0 f F FALSE false False".split()  # Go's strconv.ParseBool
_MAX_GUESSES = 20  # a guess takes a millisecond
_NUMBER = {Type.INTEGER, Type.UNSIGNED}
_DURATION = {Type.DURATION, Type.DURATION_OR_NULL, Type.DURATION_OR_NUMBER}


def decode(line: CommandLine, version: Version) -> Settings:
    """Return the settings of a command line, with the findings of parsing."""
    start = line.options[0].start if line.options else 0
    last = {_canonical(option.name): option for option in line.options}
    config = last.get("config")
    config_file = (config.value if config else None) or ""
    settings = Settings(line.source, version, start, embedded=line.embedded, config_file=config_file)
    settings.replaced = frozenset(map(_canonical, line.replaced))
    if _depends_on_k3s_config(line):
        settings.config_file = "the configuration file of k3s or RKE2"
    ignored: list[GivenOption] = []
    for option in line.options:
        known = OPTIONS.get(_canonical(option.name))
        if joined_options.report(settings, option):
            continue
        if known is None or not known.exists(version):
            _unknown(settings, option, known)
        elif option.dashes != "--" and not line.embedded:  # k3s adds the dashes
            _dashes(settings, option)
        elif config_file and not known.beside_config:
            ignored.append(option)
        elif last[known.name] is not option and known.type not in (Type.STRINGS, Type.SWITCHES):
            _duplicate(settings, option, last[known.name])
        else:
            _value(settings, option, known)
    for word_source, word in line.others:
        settings.add(
            word_source, word.start, Severity.ERROR, word.text[:60],
            f"invalid argument {shown(word.text)}: not an option",
            Effect.EXITS, EXITS_PARSING, "write --NAME=VALUE", _as_option(line, word_source, word),
        )  # fmt: skip
    if config and ignored:
        _ignored(settings, config, ignored)
    return settings


def _canonical(name: str) -> str:
    return name.replace("_", "-")


def _depends_on_k3s_config(line: CommandLine) -> bool:
    """Return whether the line is one of k3s that says nothing about the mode. Then config.yaml can contain it."""
    said = any(option.name == "proxy-mode" or option.name.startswith("ipvs-") for option in line.options)
    texts = (option.source.content[option.start : option.end] for option in line.options)
    return line.embedded and not said and any(ARGUMENTS in text for text in texts)


def _as_option(line: CommandLine, source: SourceText, word: Word) -> tuple[Edit, ...]:
    """Return the edits that turn a word into an option, or into the value of the option before it."""
    if _canonical(word.text.partition("=")[0]) in OPTIONS and "=" in word.text:
        begin = source.content.find(word.text, word.start, word.end)
        return (source.edit(begin, begin, "--"),) if begin >= 0 else ()
    before = [option for option in line.options if option.source is source and option.end <= word.start]
    if before and before[-1].value == "" and not source.content[before[-1].end : word.start].strip(" \t"):
        return (source.edit(before[-1].end, word.start, ""),)
    return ()


def _ignored(settings: Settings, config: GivenOption, ignored: list[GivenOption]) -> None:
    them = "it" if len(ignored) == 1 else "them"
    first = ignored[0]
    settings.add(
        first.source, first.start, Severity.ERROR, ", ".join(_canonical(option.name) for option in ignored),
        f"ignored beside --config: {', '.join(f'--{option.name}' for option in ignored[:5])}", Effect.IGNORES,
        f"kube-proxy ignores {them}, and uses only the file {shown(config.value or '')}",
        f"set {them} in that file: {', '.join(filter(None, (_as_field(option) for option in ignored[:5])))}",
    )  # fmt: skip


def _as_field(option: GivenOption) -> str:
    known = OPTIONS[_canonical(option.name)]
    return f"{known.path}: {option.value or 'true'}" if known.path else ""


def _dashes(settings: Settings, option: GivenOption) -> None:
    settings.add(
        option.source, option.start, Severity.ERROR, _canonical(option.name),
        f"invalid dashes {option.dashes!r} before {option.name}", Effect.EXITS, EXITS_PARSING, f"write --{option.name}",
        (option.source.edit(option.start, option.start + len(option.dashes), "--"),),
    )  # fmt: skip


def _unknown(settings: Settings, option: GivenOption, known: Union[Option, None]) -> None:
    name, version = _canonical(option.name), settings.version
    edits: tuple[Edit, ...] = remove_option(option) if known else ()
    problem, correction = f"unknown option {shown(option.name)}", "remove it"
    if known and known.before <= version:
        problem += ", removed in {}.{}".format(*known.before) if known.before > (1, 20) else ", removed before 1.20"
        correction = "use --cleanup" if name.startswith("cleanup-") else correction
    elif known:
        problem += ": exists since {}.{}, not in {}.{}".format(*known.since, *version)
    elif _pair(option, version):
        pair = "{}={}".format(*_pair(option, version))
        problem, correction, edits = f"missing '=' in {shown(option.text)}", f"write {pair}", _written(option, pair)
    elif sum(finding.problem.startswith("unknown") for finding in settings.findings) < _MAX_GUESSES:
        close = _close(name, version)
        if close:
            correction = f"write {'' if settings.embedded else '--'}{close}"
            begin = option.source.content.find(option.name, option.start, option.end)
            if begin >= 0:
                edits = (option.source.edit(begin, begin + len(option.name), close),)
    settings.add(
        option.source, option.start, Severity.ERROR, name, problem, Effect.EXITS, EXITS_PARSING, correction, edits
    )


def _pair(option: GivenOption, version: Version) -> tuple[str, ...]:
    """Return the name and the value of an option in which another sign is between them, or nothing."""
    match = re.match(r"\s*([A-Za-z][\w-]*)\s*[:=\s]\s*([^\s:=].*?)\s*\Z", option.text)
    known = OPTIONS.get(_canonical(match[1])) if match else None
    return (match[1], match[2]) if match and known and known.exists(version) else ()


def _written(option: GivenOption, text: str) -> tuple[Edit, ...]:
    begin = option.source.content.find(option.text, option.start, option.end)
    return (option.source.edit(begin, begin + len(option.text), text),) if begin >= 0 else ()


@functools.lru_cache(maxsize=64)
def _close(name: str, version: Version) -> Optional[str]:
    """Return the option that a name probably means, or None."""
    existing = [item.name for item in OPTIONS.values() if item.exists(version)]
    plain = re.sub("[^a-z]", "", name.lower())
    fields = {re.sub("[^a-z]", "", item.path.lower()): item.name for item in OPTIONS.values() if item.path}
    close = next((item for item in existing if re.sub("[^a-z]", "", item) == plain), None)
    return close or fields.get(plain) or (spelling.nearest(name, existing, 0.7) if len(name) < 60 else None)


def _duplicate(settings: Settings, option: GivenOption, other: GivenOption) -> None:
    line, _ = other.source.position(other.start)
    settings.add(
        option.source, option.start, Severity.WARNING, _canonical(option.name),
        f"duplicate option --{option.name}, again in line {line}", Effect.IGNORES,
        "kube-proxy ignores this value: it uses the last one", f"keep one option --{option.name}",
        remove_option(option) if option.value == other.value else (),
    )  # fmt: skip


def _value(settings: Settings, option: GivenOption, known: Option) -> None:
    path = known.path or known.name
    setting = Setting(path, known.name, option.source, option.start, None, option=option)
    found = _read(option.value, known)
    if isinstance(found, Invalid):
        settings.reject(setting, found.problem, EXITS_PARSING, found.correction)
        return
    before = settings.known.get(path)
    if known.type is Type.STRINGS and before:  # without one of the values, the whole list is unknown
        found = None if found is None or before.value is None else (*before.value, *found)
    settings.known[path] = Setting(path, known.name, option.source, option.start, found, option=option)
    if known.type is Type.SWITCHES:
        for name, on in (found or {}).items():
            inner = f"{path}.{name}"
            settings.known[inner] = Setting(
                inner, f"{known.name}.{name}", option.source, option.start, on, option=option
            )


def _read(text: Union[str, None], known: Option) -> Any:
    """Return the value of an option as its type, or Invalid."""
    if known.type is Type.ANY:
        return None
    if text is None:
        return True if known.type is Type.BOOLEAN else Invalid(f"missing value of --{known.name}")
    if "$" in text:  # a variable, whose value is unknown
        return None
    if known.type is Type.BOOLEAN:
        likely = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(
            text.strip().lower(), text.strip().lower()
        )
        problem = f"invalid type: expected {known.type.value}, found {shown(text)}"
        return (
            text in _TRUE
            if text in (*_TRUE, *_FALSE)
            else Invalid(problem, likely if likely in ("true", "false") else "")
        )
    if known.type in _NUMBER:
        number = values.integer(text)
        valid = number is not None and -(1 << 31) <= number < 1 << 31
        return number if valid else Invalid(f"invalid number {shown(text)}")
    if known.type is Type.FLOAT:
        return (
            1.0
            if re.match(r"[-+]?[0-9.]{1,20}(?:[eE][-+]?[0-9]{1,3})?\Z", text)
            else Invalid(f"invalid number {shown(text)}")
        )
    if known.type in _DURATION:
        return values.duration(text)
    if known.type is Type.STRINGS:
        return tuple(text.split(",")) if text else ()
    if known.type is Type.SWITCHES:
        return _switches(text)
    return text


def _switches(text: str) -> Any:
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = pair.partition("=")
        if not equals:
            return Invalid(f"missing value of {shown(name)}: write {name}=true" if len(name) < 60 else "missing value")
        if value.strip() not in (*_TRUE, *_FALSE):
            return Invalid(f"invalid value of {shown(name)}: must be true or false, not {shown(value)}")
        found[name.strip()] = value.strip() in _TRUE
    return found
