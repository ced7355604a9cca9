"""A linter for prose: short sentences that begin with a subject or an imperative, in the words of the glossary.

`python -m tests.prose FILE...` prints its findings. It reads Markdown, scdoc, docstrings and comments of Python, and
the comments of units, scripts and configuration files. CONTRIBUTING.md contains the rules, and the glossary in
HACKING.md the words.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = 35  # in one sentence; CONTRIBUTING.md asks for about 25
_START = re.compile(r"(what|who|whose|whoever)\b", re.IGNORECASE)
_BLOCK = re.compile(r"#|- |\d+\. |\||-- |[A-Z][A-Za-z-]+: ")  # begins a new text
_CODE = re.compile(r"`[^`]+`|@\w+@|(?<![\\*])\*[^*\s][^*]*(?<!\\)\*(?!\*)")
_CODES = re.compile(r"CODE(?:(?:,| and| or|, and|, or)? CODE)+")


@cache
def glossary() -> Mapping[str, tuple[str, ...]]:
    """Return the terms of HACKING.md, each with the words that it replaces."""
    table = (ROOT / "HACKING.md").read_text().split("\n## Glossary\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|([^|]*)\|$", table, re.MULTILINE)[1:]
    return {term: tuple(re.findall(r"`([^`]+)`", words)) for term, words in rows}


def _lines(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are prose. An empty line ends a text."""
    if path.suffix == ".py":
        yield from _docstrings(text)
        yield from _comments(text)
        return
    documents, literal = path.suffix in {".md", ".scd", ".catalog", ""}, False
    for number, line in enumerate(text.split("\n"), 1):
        literal ^= line.startswith("```")
        comment = line[1:] if line.startswith("#") and not line.startswith("#!") else ""
        yield number, ("" if literal or line.startswith("```") else line) if documents else comment


def _docstrings(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            docstring = ast.get_docstring(node) or ""
            yield from enumerate([*docstring.split("\n"), ""], node.body[0].lineno if docstring else 1)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string[1:]
        elif token.type != tokenize.NL or token.start[1] == 0:  # code, or an empty line
            yield token.start[0], ""


def sentences(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence with the line on which its text begins. Code counts as one word."""
    texts: list[tuple[int, list[str]]] = []
    fresh, depth = True, 0
    for number, raw in _lines(path, text):
        line = raw.strip()
        if line:
            fresh, depth = fresh or raw.count("\t") != depth, raw.count("\t")
        cells = re.split(r" ?(?<!\\)\| ?", line) if line.startswith("|") else [line]
        if fresh or _BLOCK.match(line):
            texts += [(number, [cell]) for cell in cells if cell.strip("-")]
        elif line:
            texts[-1][1].append(line)
        fresh = not line or line.startswith(("|", "#")) or line.endswith("++")
    for number, parts in texts:
        joined = re.sub(r"(?<=\])\([^)]*\)|<!--.*?-->|\*\*", "", " ".join(parts))
        plain = _CODES.sub("CODE", _CODE.sub("CODE", joined)).lstrip("#-*_[ 0123456789.")
        yield from ((number, sentence) for sentence in re.split(r"(?<=[.!?])[\"')]*\s+", plain))


def findings(path: Path, text: str, words: Mapping[str, str]) -> Iterator[str]:
    """Yield the faults of a file as `FILE:LINE: PROBLEM: SENTENCE`. `words` maps the words to avoid to terms."""
    avoided = _any_of(tuple(words))
    for line, sentence in sentences(path, text):
        count = len(re.findall(r"\S*\w\S*", sentence))
        problems = [f"{count} words"] if count > WORDS else []
        problems += ["does not start with a subject or an imperative"] if _START.match(sentence) else []
        found = words if avoided.search(sentence) else ()
        problems += [f"'{word}' (use '{words[word]}')" for word in found if _any_of((word,)).search(sentence)]
        yield from (f"{path}:{line}: {problem}: {sentence}" for problem in problems)


@cache
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)


def lint(paths: Iterable[Path]) -> list[str]:
    """Return the faults of files according to the glossary."""
    words = {word: term for term, avoided in glossary().items() for word in avoided}
    return [finding for path in paths for finding in findings(path, path.read_text(), words)]


if __name__ == "__main__":
    found = lint(map(Path, sys.argv[1:]))
    print(*found, f"{len(found)} findings", sep="\n")
    sys.exit(bool(found))
