"""The documents, the man pages, the texts of the packages, and the docstrings and comments obey CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import prose

FILES = [
    *sorted(prose.ROOT.glob("*.md")),
    *sorted((prose.ROOT / "docs").rglob("*.md")),
    *sorted((prose.ROOT / "docs/examples").rglob("*.conf")),
    *sorted((prose.ROOT / "packaging/man").glob("*.scd")),
    *sorted((prose.ROOT / "packaging/hooks").iterdir()),
    *sorted((prose.ROOT / "systemd").glob("*.service")),
    *sorted((prose.ROOT / "ipvsd").rglob("*.py")),
    *(prose.ROOT / f"packaging/{name}" for name in ("debian/control", "ipvsd.catalog", "ipvsd.yaml", "rpm/ipvsd.spec")),
]
LONG = "word " * (prose.WORDS + 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(prose.ROOT)))
def test_the_prose_obeys_the_rules(path: Path) -> None:
    assert prose.lint([path]) == []


def test_the_glossary_has_at_most_40_terms() -> None:
    assert 20 <= len(prose.glossary()) <= 40


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.md", f"Short.\n\n{LONG}end.", "37 words"),
        ("a.md", f"| key | {LONG}|\n", "36 words"),
        ("a.md", "- One.\n- Who did it.\n", "does not start"),
        ("a.md", "One sentence. What is\nreported is short.", "does not start"),
        ("a.scd", "*check*\n\tWhoever reads this.\n", "does not start"),
        ("a.md", "ipvsd is [told](x.md) so.", "'told' (use 'event')"),
        ("a.py", '"""What it is."""\n', "does not start"),
        ("a.py", f'def f():\n    """Do it.\n\n    {LONG}\n    """\n', "36 words"),
        ("a.py", f"x = 1  # {LONG}\n", "36 words"),
        ("a.py", "# One comment that is\n# told in two lines.\n", "'told' (use 'event')"),
        ("a.service", f"[Unit]\n# {LONG}\n", "36 words"),
    ],
)
def test_a_fault_is_found(name: str, text: str, problem: str) -> None:
    (found,) = prose.findings(Path(name), text, {"told": "event"})
    assert f": {problem}" in found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", f"```\n{LONG}\nWhat is told.\n```\n"),
        ("a.md", "`what` is a word, as `told` is.\n"),
        ("a.md", "It has " + ", ".join(f"`{number}`" for number in range(50)) + " and `x`.\n"),
        ("a.md", f"# A title\n{'word ' * 30}\n\n{'word ' * 30}\n"),
        ("a.scd", f"*--{LONG.strip()}*\n\tText.\n"),
        ("a.py", f'x = "# {LONG}"\n'),
        ("a.py", f"# {'word ' * 30}\nx = 1\n# {'word ' * 30}\n\n# {'word ' * 30}\n"),
        ("a.service", f"ExecStart={LONG}\n"),
    ],
)
def test_valid_text_has_no_findings(name: str, text: str) -> None:
    assert list(prose.findings(Path(name), text, {"told": "event"})) == []
