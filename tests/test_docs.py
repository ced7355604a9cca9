"""The documents describe exactly what the code has: generated tables, options, JSON keys, examples and links."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ipvsd import cli
from ipvsd.commands import argument_parser, doctor
from ipvsd.commands.output import EX_CANNOT_TELL
from ipvsd.config.parser import parse
from ipvsd.config.profiles import PROFILES, alternatives, entries
from ipvsd.config.schema import Config
from ipvsd.conflicts.external_setting import APPLIED_WHEN, Effect, Program
from ipvsd.doctor.finding import Severity
from ipvsd.model.value_texts import text_of
from ipvsd.reporting import metrics, status_document
from tests import attack, samples, tables
from tests.kube_proxy_server import put_kube_proxy
from tests.trees import make_tree, put
from tests.vm import test_doctor as guide

ROOT = Path(__file__).parents[1]
IPVSD_8 = (ROOT / "packaging/man/ipvsd.8.scd").read_text()
YAML_5 = (ROOT / "packaging/man/ipvsd.yaml.5.scd").read_text()
README = (ROOT / "README.md").read_text()
METRICS = (ROOT / "docs/metrics.md").read_text()
STATUS = (ROOT / "docs/status.md").read_text()
DRIFT = (ROOT / "docs/drift.md").read_text()
MARKDOWN = [
    *(ROOT / f"{name}.md" for name in ("README", "HACKING", "CHANGELOG", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SOURCES = {path: path.read_text() for path in (ROOT / "ipvsd").rglob("*.py")}


def section(text: str, start: str, end: str) -> str:
    """Return the text between two lines."""
    assert f"\n{start}\n" in text
    return text.split(f"\n{start}\n", 1)[1].split(f"\n{end}\n", 1)[0]


def terms(text: str) -> list[str]:
    """Return the terms of scdoc's definition lists: bold, alone on a line without indentation."""
    lines = [line for line in text.splitlines() if re.match(r"\*[^*]+\*(?:[ ,].*)?$", line)]
    return [term for line in lines for term in re.findall(r"\*([^*]+)\*", line)]


def blocks(text: str, language: str = "") -> list[str]:
    """Return the literal blocks with the language `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# --- tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", tables.DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_are_up_to_date(path: Path) -> None:
    assert path.read_text() == tables.written(path.read_text()), "run 'make tables'"


@pytest.mark.parametrize("path", tables.FILES, ids=lambda path: path.name)
def test_the_generated_files_are_up_to_date(path: Path) -> None:
    assert path.read_text() == tables.FILES[path](), "run 'make tables'"


def test_every_table_is_in_a_document() -> None:
    assert {name for path in tables.DOCUMENTS for name in tables.names(path.read_text())} == set(tables.TABLES)


# --- configuration --------------------------------------------------------------------


def test_ipvsd_yaml_5_and_profiles_md_have_every_profile_and_its_items() -> None:
    documented = terms(section(YAML_5, "# PROFILES", "# EXAMPLES"))
    text = (ROOT / "docs/profiles.md").read_text()
    names = {entry.name for profile in PROFILES.values() for entry in entries(profile)}
    names |= {name for profile in PROFILES.values() for choice in alternatives(profile) for name in choice.names}
    names |= {entry.key for profile in PROFILES.values() for entry in profile.sysctls}
    assert documented == list(PROFILES)
    assert {name for name in names if f"`{name}`" not in text} == set()


EXAMPLES = {
    **{f"README.md {number}": text for number, text in enumerate(blocks(README, "yaml"))},
    **{f"ipvsd.yaml(5) {number}": text for number, text in enumerate(blocks(YAML_5.split("# EXAMPLES")[1]))},
}


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_the_examples_of_the_configuration_are_good(text: str) -> None:
    assert parse([("example", text.encode())]) != Config()


def test_the_documents_have_examples() -> None:
    assert {name.split()[0] for name in EXAMPLES} == {"README.md", "ipvsd.yaml(5)"}


def test_the_example_with_every_default_is_the_default() -> None:
    first = blocks(YAML_5.split("# EXAMPLES")[1])[0]
    assert parse([("example", first.encode())])._replace(origins={}) == Config()


# The troubleshooting guide names keys of kube-proxy and of pods as well.
NAMING = [path for path in MARKDOWN[:1] + MARKDOWN[3:] if path.name != "troubleshooting.md"]


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.name)
def test_keys_of_the_configuration_that_are_named_in_passing_exist(path: Path) -> None:
    known = {*terms(section(YAML_5, "# KEYS", "# SYSCTL NAMES"))}
    named = re.findall(r"`([A-Za-z]+(?:\.[A-Za-z]+)*):(?: [^`]*)?`", path.read_text())
    assert set(named) - known == set()


# --- troubleshooting --------------------------------------------------------------------


def test_each_section_of_the_guide_has_a_test_on_a_node_or_a_reason() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted((*guide.PROBLEMS, *guide.ELSEWHERE))


def test_the_packages_have_the_guide_where_doctor_refers_to_it() -> None:
    directory, name = os.path.split(doctor.GUIDE)
    assert (ROOT / "docs" / name).is_file()
    assert f"\tdh_compress -X{directory[1:]}/\n" in (ROOT / "packaging/debian/rules").read_text()
    specification = (ROOT / "packaging/rpm/ipvsd.spec").read_text()
    assert "%global _docdir_fmt %{name}\n" in specification
    assert "%doc README.md SECURITY.md CHANGELOG.md docs\n" in specification


# --- metrics --------------------------------------------------------------------------


@pytest.mark.parametrize("text", [METRICS, README, IPVSD_8, YAML_5], ids=["metrics", "README", "ipvsd(8)", "yaml(5)"])
def test_metrics_that_are_named_in_passing_exist(text: str) -> None:
    exposed = metrics.exposition(lambda: samples.COMPLETE)().decode()
    named = set(re.findall(r"\bipvsd_\w+", text)) - {"ipvsd_VERSION_all", "ipvsd_"}
    assert named <= set(re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE))


# --- command line ---------------------------------------------------------------------


def commands(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command that can run, with its parser."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if path and not any(action.required for action in nested):
        yield " ".join(path), parser
    for action in nested:
        for name, command in action.choices.items():
            yield from commands(command, (*path, name))


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def test_the_synopsis_has_every_command_with_its_options() -> None:
    rows = re.findall(r"^\*ipvsd ([a-z][a-z -]*)\*(.*)$", section(IPVSD_8, "# SYNOPSIS", "# DESCRIPTION"), re.MULTILINE)
    documented = {command: set(re.findall(r"\*(--[a-z-]+)\*", rest)) for command, rest in rows}
    expected = {name: options(parser) - {"-h", "--help"} for name, parser in commands(argument_parser.build_parser())}
    assert documented == expected


def test_ipvsd_8_explains_every_command_and_option() -> None:
    parser = argument_parser.build_parser()
    every = options(parser).union(*(options(command) for _, command in commands(parser)))
    assert terms(section(IPVSD_8, "# COMMANDS", "# OPTIONS")) == [name for name, _ in commands(parser)]
    assert set(terms(section(IPVSD_8, "# OPTIONS", "# EXIT STATUS"))) == every


def test_every_exit_code_has_a_meaning() -> None:
    others = "".join(text for path, text in SOURCES.items() if path.name != "argument_parser.py")
    used = {getattr(os, name) for name in re.findall(r"\bos\.(EX_\w+)", others)}
    assert {0, 1, EX_CANNOT_TELL, *used} == set(argument_parser.EXIT_CODES)


def test_ipvsd_8_explains_every_environment_variable() -> None:
    used = re.findall(r"""\benviron\.get\("(\w+)""", "".join(SOURCES.values()))
    assert set(used) <= set(terms(section(IPVSD_8, "# ENVIRONMENT", "# FILES")))


def test_the_readme_has_every_command() -> None:
    documented = re.findall(r"^\| `ipvsd ([a-z]+(?:[ -][a-z]+)*?)(?: \[FILE\]| FILE| NAME)?` \|", README, re.MULTILINE)
    assert sorted(documented) == sorted(name for name, _ in commands(argument_parser.build_parser()))


# --- the status document --------------------------------------------------------------


def shapes(document: Mapping[str, Any]) -> Mapping[str, set[str]]:
    """Return the keys of each kind of object in a status document."""
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    for key, items in lists.items():
        assert items or key == "notes", f"{key} is empty and shows nothing"
        assert all(item.keys() == items[0].keys() for item in items if isinstance(item, dict))
    nested = {key: set(items[0]) for key, items in lists.items() if key != "notes"}
    single = {key: set(value) for key, value in document.items() if isinstance(value, dict)}
    return {"": set(document), **nested, **single}


def test_the_example_in_status_md_has_the_keys_that_the_code_gives() -> None:
    (example,) = blocks(STATUS, "json")
    assert shapes(json.loads(example)) == shapes(status_document.build_document(samples.COMPLETE))


HEADINGS = {
    "The document": "", "A module": "modules", "A sysctl": "sysctls", "A repair": "repairs",
    "A contended sysctl": "contended", "A failure": "failures", "A source": "sources", "ipvs": "ipvs",
    "config": "config",
}  # fmt: skip


@pytest.mark.parametrize("heading", HEADINGS)
def test_status_md_has_a_row_for_every_key(heading: str) -> None:
    text = STATUS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted(shapes(status_document.build_document(samples.COMPLETE))[HEADINGS[heading]])


# --- doctor -------------------------------------------------------------------------


def test_status_md_has_a_row_for_every_key_of_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_kube_proxy(make_tree(tmp_path), config="mode: iptables\n")
    cli.main(["doctor", "--output", "json", "--root", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    of_proxy, rest = STATUS.split("\n## kube_proxy\n")[1].split("\n## The JSON of doctor\n")
    whole, finding = rest.split("\n## ")[0].split("\nEach object in `findings` has these keys:\n")

    of_document = {"state", "summary", "kernel", "root_kind"}
    for text, keys in (
        (of_proxy, set(found["kube_proxy"])),
        (whole, set(found) - of_document),
        (finding, set(found["findings"][0])),
    ):
        assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == keys
    assert of_document <= set(found)
    assert {severity.value for severity in Severity} <= set(re.findall(r"`([a-z]+)`", finding))


# --- explain ------------------------------------------------------------------------


def test_drift_md_has_a_row_for_every_key_of_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(make_tree(tmp_path), "etc/sysctl.d/a.conf", "net.ipv4.ip_forward = 0\n")
    cli.main(["explain", "net.ipv4.ip_forward", "--output", "json", "--root", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    whole, setting = DRIFT.split("\n## The JSON of explain\n")[1].split("\nEach object in `settings` has these keys:\n")
    for text, keys in ((whole, set(found)), (setting, set(found["settings"][0]))):
        assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == keys
    assert set(re.findall(r"`([a-z]+)`", setting)) >= {effect.value for effect in Effect}


@pytest.mark.parametrize("program", Program, ids=lambda program: program.value)
def test_every_conflicting_program_is_documented(program: Program) -> None:
    headings = re.findall(r"^### (?:The )?(.*)$", DRIFT.split("\n## Conflicting programs\n")[1], re.MULTILINE)
    assert text_of(program) in [heading.replace("`", "").replace(" (procps)", "") for heading in headings]
    assert text_of(program).split("'")[0] in section(IPVSD_8, "# CONFLICTING PROGRAMS", "# SIGNALS")
    assert program in APPLIED_WHEN


# --- form -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_within_the_tree_lead_somewhere(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.skipif(not (shutil.which("scdoc") and shutil.which("man")), reason="needs scdoc and man")
@pytest.mark.parametrize("name", ["ipvsd.8", "ipvsd.yaml.5"])
def test_the_man_pages_are_made_without_a_warning(name: str, tmp_path: Path) -> None:
    page = tmp_path / name
    source = (ROOT / f"packaging/man/{name}.scd").read_text()
    made = subprocess.run(["scdoc"], input=source, capture_output=True, text=True, check=False)
    page.write_text(made.stdout)
    shown = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr, shown.returncode, shown.stderr) == (0, "", 0, "")
    assert "NAME" in shown.stdout


def test_security_md_has_a_row_for_every_attack_and_the_bound_of_the_tests() -> None:
    text = (ROOT / "docs/security.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    assert [name for name in attack.ALL if name not in rows] == []
    assert f"at most {attack.BOUND // 1_000_000} MB more" in text
