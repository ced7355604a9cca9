"""A linter for commit messages. `.githooks/commit-msg` runs it, and CONTRIBUTING.md describes the format."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

COLUMNS = 72  # of the subject
WIDTH = 80  # of the body
_SCOPE = re.compile(r"[a-z0-9_./ ,-]+: ")
# Verb forms that are not imperative, and words that do not begin an instruction.
_MOOD = re.compile(r"(?!(?:embed|feed|need|speed|bring|string)$).*(?:ed|ing)$", re.IGNORECASE)
_THIRD_PERSON = re.compile(r"(?!focus$|bias$|alias$|canvas$).*[^sui]s$", re.IGNORECASE)
_NO_VERB = {"a", "an", "the", "no", "nothing", "what", "who", "whose", "whoever", "it", "this", "that", "we", "i"}
_TRAILER = re.compile(r"[A-Z][A-Za-z-]+: \S")
_GENERATED = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def problems(message: str) -> Iterator[str]:
    """Yield the faults of a message that git passes to the hook, with comments."""
    text = message.split("\n# ------------------------ >8 ------------------------\n", maxsplit=1)[0]
    lines = [line.rstrip() for line in text.split("\n") if not line.startswith("#")]
    subject, rest = (lines or [""])[0], lines[1:]
    if subject.startswith(_GENERATED):
        return
    words = _SCOPE.sub("", subject, count=1).split()
    if not words:
        yield "missing subject"
        return
    if len(subject) > COLUMNS:
        yield f"subject too long: {len(subject)} columns (at most {COLUMNS})"
    if subject.endswith("."):
        yield "invalid subject: ends with a period"
    if words[0].lower() in _NO_VERB or _MOOD.match(words[0]) or _THIRD_PERSON.match(words[0]):
        yield f"invalid subject: {words[0]!r} is not an imperative (write 'scope: change this', not 'this was changed')"
    if rest and rest[0]:
        yield "missing empty line after the subject"
    body = [line for line in rest if line and not _TRAILER.match(line)]
    if not body:
        yield "missing body: describe the symptom, the cause and the decision"
    for line in body:
        if len(line) > WIDTH and not line.startswith(" ") and "://" not in line:
            yield f"line too long: {len(line)} columns (at most {WIDTH}; indent program output): {line}"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1]).read_text()))
    for problem in found:
        print(f"commit message: {problem}", file=sys.stderr)
    sys.exit(bool(found))
