"""The examples in docs/web.md."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs/web.md").read_text()


def section(title: str) -> str:
    """Return the text of a section, without its subsections."""
    return re.split(r"^##+ ", PAGE.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def examples(title: str, kind: str) -> list[str]:
    """Return the YAML examples of a section whose first key is `kind`."""
    found = re.findall(r"^( *)```yaml\n(.*?)^ *```$", section(title), re.MULTILINE | re.DOTALL)
    blocks = (textwrap.dedent(block) for _, block in found)
    return [block for block in blocks if block.startswith(kind)]
