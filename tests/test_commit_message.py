"""The hook accepts messages in the project's format, and reports the faults of others."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commit_message import problems

HOOK = Path(__file__).parents[1] / ".githooks/commit-msg"
BODY = "\n\nThe daemon waited for one second.\nThe timer was set twice. Set it once.\n"


@pytest.mark.parametrize(
    "message",
    [
        f"planner: leave parameters alone while their module is absent{BODY}",
        f"Divide ipvsd/ into packages, and declare which may import which{BODY}",
        f"tests, docs: address two faults{BODY}# A comment of git\n",
        f"process: pass the error on{BODY}\nSigned-off-by: Some One <one@example.org>\n",
        "man: quote the output\n\nThe page shows:\n\n  " + "x" * 100 + "\nhttps://example.org/" + "x" * 100 + "\n",
        "wake: end\n\nReason.\n# ------------------------ >8 ------------------------\n" + "+" * 200,
        "Merge branch 'main'",
        'Revert "planner: leave it"',
        "fixup! planner: leave it",
    ],
)
def test_a_message_in_the_format_is_taken(message: str) -> None:
    assert list(problems(message)) == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("", "missing subject"),
        ("# Only a comment\n", "missing subject"),
        ("planner: leave it", "missing body"),
        ("planner: leave it\n\nSigned-off-by: Some One <one@example.org>\n", "missing body"),
        ("planner: leave it\nThe reason.\n", "missing empty line"),
        (f"planner: leave it.{BODY}", "ends with a period"),
        (f"planner: {'leave ' * 13}{BODY}", "subject too long"),
        (f"planner: leave it{BODY}{'word ' * 20}\n", "line too long"),
        *(
            (f"writes: {start} it{BODY}", "not an imperative")
            for start in ("what", "Who", "no", "the", "added", "fixing", "removes")
        ),
    ],
)
def test_each_fault_is_reported(message: str, problem: str) -> None:
    (found,) = problems(message)
    assert problem in found


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_refuses_a_commit_with_a_faulty_message(tmp_path: Path) -> None:
    # A hook or `git rebase --exec` sets GIT_DIR, with which git would commit to this repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        who = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", f"core.hooksPath={HOOK.parent}")
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    git("init", "-q")
    refused = git("commit", "-q", "--allow-empty", "-m", "what is wrong")
    taken = git("commit", "-q", "--allow-empty", "-m", f"x: do it{BODY}")
    assert (refused.returncode, taken.returncode, taken.stderr) == (1, 0, "")
    assert "commit message: invalid subject: 'what' is not an imperative" in refused.stderr
