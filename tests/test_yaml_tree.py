from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipvsd.config import yaml_parser, yaml_tree
from ipvsd.config.yaml_tree import DocumentError, Mapping, Scalar, Sequence


def test_a_document_remembers_its_lines() -> None:
    assert yaml_tree.parse(b"a: 1\nb:\n- x\n") == Mapping(
        (
            (Scalar("str", "a", 1), Scalar("int", "1", 1)),
            (Scalar("str", "b", 2), Sequence((Scalar("str", "x", 3),), 3)),
        ),
        1,
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1", "int"), ("1.5", "float"), ("yes", "bool"), ("~", "null"), ("word", "str"), ("'1'", "str"),
        ("2026-01-01", "timestamp"),
    ],
)  # fmt: skip
def test_a_scalar_keeps_its_own_text(text: str, kind: str) -> None:
    assert yaml_tree.parse(text.encode()) == Scalar(kind, text.strip("'"), 1)


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"---\n...\n"], ids=["empty", "comment", "markers"])
def test_nothing_is_in_an_empty_document(data: bytes) -> None:
    found = yaml_tree.parse(data)
    assert found is None or (isinstance(found, Scalar) and found.kind == "null")


@given(st.text(alphabet="# \t\n\r-a\x00\u2028\ufeff", max_size=12))
@example("#")
@example(" # a\n\n#")
@example("#\x7f")
def test_a_document_without_values_is_what_pyyaml_takes_for_one(text: str) -> None:
    data = text.encode()
    try:
        expected: object = yaml_parser.parse(data)
    except DocumentError as error:
        expected = str(error)
    try:
        found: object = yaml_tree.parse(data)
    except DocumentError as error:
        found = str(error)
    assert found == expected


def test_a_key_that_stands_twice_is_there_twice() -> None:
    found = yaml_tree.parse(b"a: 1\na: 2\n")
    assert isinstance(found, Mapping)
    assert [key.line for key, _ in found.items] == [1, 2]


def test_an_alias_stands_for_what_it_names() -> None:
    found = yaml_tree.parse(b"a: &x [1]\nb: *x\n")
    assert isinstance(found, Mapping)
    assert found.items[0][1] == found.items[1][1]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        pytest.param(b"a: [1\n\n", 1, "invalid YAML", id="unfinished"),
        pytest.param(b"a: 1\n b: 2\n", 2, "invalid YAML", id="indentation"),
        pytest.param(b"a:\tb: c\n\tx", 1, "invalid YAML", id="tab"),
        pytest.param(b"a: *nowhere\n", 1, "undefined alias", id="undefined alias"),
        pytest.param(b"a: 1\n---\nb: 2\n", 2, "more than one document", id="two documents"),
        pytest.param(b"a: 1\nb: \xff\n", 2, "invalid UTF-8", id="not UTF-8"),
        pytest.param(b"b: 1\na: \x00\n", 2, "invalid character U\\+0000", id="NUL"),
        pytest.param(b"# x\n%YAML 1." + b"9" * 5000, 2, "invalid YAML: a number is out of range", id="a huge version"),
        pytest.param(b'a: 1\nb: "\\Uffffffff"\n', 2, "invalid YAML: a number is out of range", id="a huge escape"),
        pytest.param(b"? [a]\n: 1\n", 1, "a key must be plain text", id="list as a key"),
        pytest.param(b"? {a: 1}\n: 1\n", 1, "a key must be plain text", id="map as a key"),
        pytest.param(BOMB.encode(), 1, "expands to more than", id="exploding aliases"),
        pytest.param(b"a: &a [*a]\n", 0, "nested too deeply", id="alias to itself"),
        pytest.param(b"[" * 2000, 1, "nested too deeply", id="deep lists"),
        pytest.param(b"a:\n" + b"{a: " * 200, 2, "nested too deeply", id="deep maps"),
        pytest.param(b"- " * 1000, 0, "nested too deeply", id="deep block lists"),
        pytest.param(b"a" * (yaml_tree.MAX_BYTES + 1), 0, "is larger than 1048576 bytes", id="larger than 1 MiB"),
    ],
)
def test_a_text_that_is_refused(data: bytes, line: int, text: str) -> None:
    with pytest.raises(DocumentError, match=text) as caught:
        yaml_tree.parse(data)
    assert caught.value.line == line


def test_a_hundred_brackets_are_not_too_deep() -> None:
    assert yaml_tree.parse(b"[" * 100 + b"]" * 100) is not None


def test_a_text_of_very_many_values_is_given_up_early() -> None:
    with pytest.raises(DocumentError, match="contains more than 20000 values") as caught:
        yaml_tree.parse(b"a: [" + b"1," * 500_000 + b"]")
    assert caught.value.line == 1


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("scheduler: !!x rr", "!!x"),
        ("scheduler: !rr rr", "!rr"),
        ("scheduler: !<tag:example.com:str> rr", "tag:example.com:str"),
        ("scheduler: !!python/object/apply:os.system [x]", "!!python/object/apply:os.system"),
        ("scheduler: !!python/name:os.system ''", "!!python/name:os.system"),
        ("strictARP: !!bool perhaps", "!!bool"),
        ("kubeProxyVersion: !!null 1.30", "!!null"),
        ("interval: !!int soon", "!!int"),
        ("interval: !!float 5", "!!float"),
        ("scheduler: !!str [rr]", "!!str"),
        ("modules: !!set {a}", "!!set"),
        ("modules: !!omap [a: {}]", "!!omap"),
        ("!!binary a: b", "!!binary"),
        ("!!timestamp soon", "!!timestamp"),
        ("%TAG ! tag:example.com,2026:\n---\n!x a: b", "tag:example.com,2026:x"),
        (f"a: !{'x' * 99} b", f"!{'x' * 59}..."),
    ],
)
def test_a_tag_that_gives_a_value_another_type_is_refused(text: str, tag: str) -> None:
    with pytest.raises(DocumentError, match="invalid tag ") as caught:
        yaml_tree.parse(text.encode())
    assert str(caught.value) == f"invalid tag {tag!r} (remove the tag)"
    assert caught.value.line == text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "kind"), [("!!str 1", "str"), ("!!int 1", "int"), ("!!bool yes", "bool"), ("!!null ~", "null")]
)
def test_a_tag_of_the_type_that_a_value_has_or_of_a_text_is_none(text: str, kind: str) -> None:
    found = yaml_tree.parse(text.encode())
    assert isinstance(found, Scalar)
    assert found.kind == kind
