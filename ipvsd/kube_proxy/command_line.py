"""The options of kube-proxy in a file: a systemd unit, an environment file, a list of options, or a list of strings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from ipvsd.kube_proxy import k3s_config
from ipvsd.kube_proxy.config_fields import SWITCH_OPTIONS
from ipvsd.kube_proxy.source_text import SourceText, lines_of

# Characters that word processors insert for two hyphens.
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_SECTION = re.compile(r"^[ \t]*\[[A-Za-z]+\][ \t\r]*(?:$|#)", re.MULTILINE)
_UNIT_KEYS = ("ExecStart", "Environment")  # of systemd.exec(5) and systemd.service(5)
_MAX_START = 500  # characters of the first line that identify the form
_MAX_WORDS = 300  # of a command line; the longest real ones have about 50
_PROGRAM = re.compile(r"(?:\S*/)?(?:kube-proxy|hyperkube)(?=[\s\\\\]|$)")
_K3S = re.compile(r"(?:\S*/)?(?:k3s|rke2)(?=[\s\\\\]|$)")
# The alternatives do not overlap, so a search takes linear time.
_K3S_UNIT = re.compile(r"^[ \t]*ExecStart[ \t]*=[ \t]*(?:[-@+!:]*|\S*/)(?:k3s|rke2)(?=[\s\\])", re.MULTILINE)
_COMMENT = re.compile(r"[ \t]*[#;]")
_K3S_OPTION = re.compile(rf"--?{k3s_config.ARGUMENTS}(?:=|\Z)")


@dataclass(frozen=True)
class Word:
    """A word of a command line, without quotes. The span is that of its text with the quotes."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class GivenOption:
    """An option as given. `value` is None without a value. The spans are places in `source`."""

    name: str
    value: Optional[str]
    source: SourceText
    start: int
    end: int  # of the option and its value
    value_start: int
    dashes: str = "--"

    @property
    def text(self) -> str:
        """The option without dashes, unless its value is another word."""
        return self.name if self.value is None else f"{self.name}={self.value}"


@dataclass(frozen=True)
class CommandLine:
    """The options of one start of kube-proxy, and the words that are not options.

    `embedded` says that another program (k3s, RKE2) adds its own options. `replaced` contains the names of options that
    this program ignores, because a later list replaces theirs.
    """

    source: SourceText
    options: tuple[GivenOption, ...]
    others: tuple[tuple[SourceText, Word], ...] = ()
    embedded: bool = False
    replaced: frozenset[str] = frozenset()


def looks_like_options(text: str) -> bool:
    """Return whether a text is a unit, an environment file or a list of options, and not YAML."""
    if _SECTION.search(text):
        return True
    lines = [
        line.strip()[:_MAX_START] for line in lines_of(text[: 1 << 14]) if line.strip() and line.strip()[0] not in "#;"
    ]
    if not lines:
        return False
    assigned = _ASSIGNMENT.match(lines[0])
    return bool(
        re.match(rf"(?:--?|[{_DASHES}])[A-Za-z]", lines[0])
        or (assigned and re.search(r"--|^\s*\S+=\S*\s*$|=\s*[\"']", lines[0]))
        or _PROGRAM.match(lines[0])
        or _K3S.match(lines[0])
    )


def unit_of_k3s(text: str) -> Optional[int]:
    """Return the place of the command in a unit of k3s or RKE2, or None."""
    found = _K3S_UNIT.search(text) if _SECTION.search(text) else None
    return found.start() if found else None


def read(source: SourceText) -> Optional[CommandLine]:
    """Return the options of a unit, of an environment file or of a list of options, or None if there are none."""
    unit, of_k3s = _SECTION.search(source.content) is not None, unit_of_k3s(source.content) is not None
    options: list[GivenOption] = []
    others: list[tuple[SourceText, Word]] = []
    found = embedded = False
    for start, end in _logical_lines(source.content):
        if len(options) > _MAX_WORDS:
            break
        words = _words_of_line(source.content, start, end, unit)
        if words is None:
            continue
        found = True
        if of_k3s or any(_K3S_OPTION.match(word.text) for word in words):
            embedded = True
            options += _options_of_k3s(source, words)
            continue
        more, rest = _options(source, words)
        options += more
        others += [(source, word) for word in rest]
    return CommandLine(source, tuple(options), tuple(others), embedded) if found and (options or others) else None


def from_words(source: SourceText, words: Sequence[Word], embedded: bool = False) -> CommandLine:
    """Return the options of separate words, such as the items of a list."""
    if embedded:
        options = tuple(_embedded_option(source, word) for word in words[:_MAX_WORDS])
        return CommandLine(source, options, embedded=True)
    found, others = _options(source, words)
    return CommandLine(source, tuple(found), tuple((source, word) for word in others))


def _embedded_option(source: SourceText, word: Word) -> GivenOption:
    """Return the option of an item of kube-proxy-arg, to which k3s adds the dashes."""
    dashes = word.text[: len(word.text) - len(word.text.lstrip("-"))]
    name, equals, value = word.text[len(dashes) :].partition("=")
    value_start = word.start + len(dashes) + len(name) + 1
    # A quoted item begins with its quote.
    value_start += word.end - word.start - len(word.text) > 1
    return GivenOption(name, value if equals else None, source, word.start, word.end, value_start, dashes)


def _logical_lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of lines, joined if a line ends with a backslash, without comments."""
    start = None
    place = 0
    for line in lines_of(text):
        begin, place = place, place + len(line)
        plain = line.rstrip("\r\n")
        if start is None and plain.lstrip()[:1] in ("#", ";", ""):
            continue
        if start is not None and plain.lstrip()[:1] in ("#", ";"):  # systemd ignores a comment within a joined line
            continue
        start = begin if start is None else start
        if not plain.endswith("\\"):
            yield start, begin + len(plain)
            start = None
    if start is not None:
        yield start, place


def _words_of_line(text: str, start: int, end: int, unit: bool) -> Optional[list[Word]]:
    """Return the words of a logical line that are arguments of kube-proxy, or None if the line has none."""
    assigned = _ASSIGNMENT.match(text, start, end)
    if assigned is None:
        if unit:
            return None
        words = _split(text, start, end)
        return words[1:] if words and (_PROGRAM.fullmatch(words[0].text) or _K3S.fullmatch(words[0].text)) else words
    name = assigned[1]
    if unit and name not in _UNIT_KEYS:
        return None
    words = _split(text, assigned.end(), end)
    if name == "ExecStart":
        programs = (word.text.lstrip("-@+!:") for word in words)
        program = next((n for n, text in enumerate(programs) if _PROGRAM.fullmatch(text) or _K3S.fullmatch(text)), None)
        return None if program is None else words[program + 1 :]
    if name == "Environment":
        variables = (_split_again(text, word, skip_name=True) for word in words)
        return [part for parts in variables for part in parts if parts[0].text[:1] in ("-", *_DASHES)] or None
    return [part for word in words for part in _split_again(text, word)]


def _split_again(text: str, word: Word, skip_name: bool = False) -> list[Word]:
    """Return the words within a quoted word, as the shell or systemd splits a variable."""
    start, end = word.start, word.end
    if text[start : start + 1] in ("'", '"'):
        start, end = start + 1, end - 1
    if skip_name:
        assigned = _ASSIGNMENT.match(text, start, end)
        if not assigned:
            return []
        start = assigned.end()
        if text[start : start + 1] in ("'", '"'):
            start, end = start + 1, end - 1
    return _split(text, start, end)


def _split(text: str, start: int, end: int) -> list[Word]:
    """Return the words of a part of a text, separated by blanks or continued lines outside of quotes."""
    words: list[Word] = []
    place, comment = start, False
    while place < end:
        sign = text[place]
        if comment:
            comment = sign != "\n"
            place += 1
        elif sign in " \t\r\n" or (sign == "\\" and text[place + 1 : place + 2] in ("\r", "\n", "")):
            comment = sign == "\n" and _COMMENT.match(text, place + 1, end) is not None
            place += 1
        else:
            word, place = _word(text, place, end)
            words.append(word)
    return words


def _word(text: str, start: int, end: int) -> tuple[Word, int]:
    parts, place, quote = [], start, ""
    while place < end:
        sign = text[place]
        if quote:
            if sign == quote:
                quote = ""
            else:
                parts.append(sign)
        elif sign in "'\"":
            quote = sign
        elif sign in " \t\r\n" or (sign == "\\" and text[place + 1 : place + 2] in ("\r", "\n", "")):
            break
        else:
            parts.append(sign)
        place += 1
    return Word("".join(parts), start, place), place


def _options_of_k3s(source: SourceText, words: Sequence[Word]) -> Iterator[GivenOption]:
    """Yield the options that a command line of k3s or RKE2 passes to kube-proxy."""
    rest = iter(words[:_MAX_WORDS])
    for word in rest:
        match = _K3S_OPTION.match(word.text)
        if not match:
            continue
        value = word if match[0].endswith("=") else next(rest, None)
        if value is None:
            continue
        text = value.text[match.end() :] if value is word else value.text
        option = _embedded_option(source, Word(text, word.start, value.end))
        name = source.content.find(f"{option.name}=", value.start, value.end)
        place = name + len(option.name) + 1 if name >= 0 else value.end
        if source.content[place : place + 1] in ("'", '"'):
            place += 1
        yield dataclasses.replace(option, value_start=place)


def _options(source: SourceText, words: Sequence[Word]) -> tuple[list[GivenOption], list[Word]]:
    """Return the options among words, with values in separate words, and the other words."""
    options: list[GivenOption] = []
    others: list[Word] = []
    words = words[:_MAX_WORDS]
    rest = iter(enumerate(words))
    for number, word in rest:
        match = re.match(rf"(--?|[{_DASHES}]{{1,2}}|-[{_DASHES}])(?=[A-Za-z])", word.text)
        if not match:
            if not word.text.startswith(("$", "-")) and word.text:
                others.append(word)
            continue
        name, equals, value = word.text[match.end() :].partition("=")
        quoted = word.end - word.start - len(word.text)
        value_start = word.start + match.end() + len(name) + 1
        following = words[number + 1] if number + 1 < len(words) else None
        plain = name.replace("_", "-")
        if equals:
            leading = source.content[value_start : value_start + 1] in ("'", '"') and quoted > 0
            value_start += 1 if leading or (quoted and source.content[word.start : word.start + 1] in "'\"") else 0
            options.append(GivenOption(name, value, source, word.start, word.end, value_start, match[0]))
        elif following and plain not in SWITCH_OPTIONS and not following.text.startswith("-"):
            next(rest)
            start = following.start + (source.content[following.start : following.start + 1] in ("'", '"'))
            options.append(GivenOption(name, following.text, source, word.start, following.end, start, match[0]))
        else:
            options.append(GivenOption(name, None, source, word.start, word.end, word.end, match[0]))
    return options, others
