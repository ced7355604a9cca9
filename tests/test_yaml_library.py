"""PyYAML is imported without the parts that ipvsd does not use, and other code can import all of it."""

from __future__ import annotations

from tests.test_prometheus_library import run

UNUSED = ["yaml", "yaml.constructor", "yaml.cyaml", "yaml.dumper", "yaml.emitter", "yaml._yaml"]
PARSE = """
from ipvsd.config import yaml_tree
assert yaml_tree.parse(b"a: [1, yes]").items[0][0].text == "a"
"""


def test_only_the_modules_that_parse_are_imported() -> None:
    trace = "import sys\nsys.addaudithook(lambda event, details: event == 'import' and print(details[0]))\n"
    imported = run(f"{trace}{PARSE}")
    assert "yaml.composer" in imported
    assert not set(UNUSED) & set(imported)


def test_other_code_gets_the_whole_library_afterwards() -> None:
    assert run(f"{PARSE}\nimport yaml\nprint(yaml.safe_load(yaml.safe_dump('text')))") == ["text"]


def test_a_library_that_was_imported_before_stays() -> None:
    code = f"import sys, yaml\n{PARSE}\nprint(sys.modules['yaml'] is yaml, yaml.safe_load('text'))"
    assert run(code) == ["True", "text"]


def test_a_missing_library_is_reported_by_name() -> None:
    code = """
import sys
sys.path = [place for place in sys.path if not place.endswith("-packages")]
try:
    import ipvsd.config.yaml_parser
except ModuleNotFoundError as error:
    print(error.name)
print(*(name for name in sys.modules if name.startswith("yaml")))
"""
    assert run(code) == ["yaml"]
