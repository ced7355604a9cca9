"""Generated files of shell variables, judged by the shell itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ipvsd.kernel import shell_assignments
from tests.differential.sandbox import breadth, dice

pytestmark = pytest.mark.differential

PARTS = [
    *'A= B= C= A $A ${B} \'x_y\' "a_b" "$A" \\ # \' " export_ x ~ : é'.split(),
    *"`echo` $(echo_')') ${A:-x} $ = ; \\$ \\\"".split(),
    *"&& false | & - unset_A if_true then_ fi {_ } readonly 2>/dev/null_ ! ( ) exit A+=x A=1_B=2 return".split(),
]
PARTS = [part.replace("_", " ") for part in PARTS] + ["\n"] * 8 + [" "] * 4 + ["\\\n", "\t", "\r"]
COMMON = ["A=", "B=", "C=", "\nA=", "\nB=", " C=", "\nexport ", "\n"]  # most files consist of assignments
NAMES = "ABC"
PRINT = "; ".join(f'printf "{name}%s\\0" "${{{name}-unset}}"' for name in NAMES)
# The shell stops at these errors, and versions differ in which commands before them it runs.
ERRORS = (b"yntax", b"nexpected", b"bad variable name", b"not a valid identifier", b"read only", b"readonly")


def test_variables_have_the_values_that_a_shell_gives_them(tmp_path: Path) -> None:
    compared = 0
    for number in range(breadth() * 10):
        random = dice(number)
        parts = COMMON * random.randint(0, 6) + PARTS
        text = "".join(random.choice(parts) for _ in range(random.randint(1, 14)))
        file = tmp_path / "file"
        file.write_bytes(text.encode())
        done = subprocess.run(
            ["sh", "-c", f"trap '{PRINT}' EXIT; . {file} > /dev/null"],
            check=False, capture_output=True, stdin=subprocess.DEVNULL, cwd=tmp_path, env={"PATH": os.defpath},
        )  # fmt: skip
        if any(error in done.stderr for error in ERRORS):
            continue
        expected = {value[:1]: value[1:] for value in done.stdout.decode().split("\0")[:-1]}
        found = {name: value.text for name, value in shell_assignments.parse(text).items() if value.certain}
        found = {name: value for name, value in found.items() if name in expected}
        assert {name: expected[name] for name in found} == found, text
        compared += len(found)
    assert compared > breadth()
