"""No text, however strange, makes a parser raise anything but its own error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipvsd import document, effective, formats, sysctls
from ipvsd.config import Config, ConfigError, parse
from ipvsd.health import ascii_line
from ipvsd.watch.uevents import module_event

settings.register_profile("check", max_examples=60, deadline=None, database=None, derandomize=True)
settings.load_profile("check")

NAMES = ("ip_vs", "nf_conntrack")
LINES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from([
            "ip_vs 1 0 - Live 0x0", "ip_vs", "kernel/net/ip_vs.ko:", "kernel/ip-vs.ko.xz", "ID=debian", "0-3,9",
        ]),
    ),
    max_size=6,
).map("\n".join)  # fmt: skip

WORDS = """
profiles scheduler strictARP bridgeNetfilter interval startup mode limit web listen modules sysctls
required value atLeast policy net.ipv4.ip_forward net/ipv4/../x ip_vs_wlc kube-proxy-ipvs rr true no ~ 1 0x10 60s
strict observe 127.0.0.1:80 [::1]:80 << *a &a !!bool !!str !!int !!null !x | > --- ...
""".split()
YAML = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from([": ", ":\n  ", "\n", ", ", " ", "- ", "[", "]", "{", "}", '"'])),
    max_size=14,
).map(lambda pairs: "".join(word + mark for word, mark in pairs))


@given(LINES)
def test_kernel_texts(text: str) -> None:
    assert set(formats.proc_modules(text, NAMES)) <= set(NAMES)
    assert formats.indexed_names(text, NAMES) <= set(NAMES)
    assert formats.cpu_count(text) >= 0
    assert formats.kernel_version(text) >= (0, 0)
    assert formats.os_release_id(text).isascii()


@given(st.text(max_size=70))
def test_module_names(text: str) -> None:
    name = formats.module_name(text)
    assert name is None or (name.isascii() and name.replace("_", "a").isalnum())


@given(st.text(alphabet=st.one_of(st.sampled_from("./ab-_"), st.characters()), max_size=30))
def test_sysctl_names(text: str) -> None:
    parts = sysctls.parts(text)
    if parts is not None:
        assert not {"", ".", ".."} & set(parts)
        assert not any("/" in part or "\0" in part for part in parts)
        assert sysctls.parts(sysctls.name(parts)) == parts


@given(st.text(max_size=40))
def test_sysctl_values(text: str) -> None:
    value = sysctls.canonical(text)
    assert sysctls.canonical(value) == value
    assert sysctls.integer(text) is None or isinstance(sysctls.integer(text), int)


@given(st.one_of(st.binary(max_size=100), YAML.map(str.encode), LINES.map(lambda text: text.encode("utf-8", "ignore"))))
def test_documents_and_configurations(data: bytes) -> None:
    with contextlib.suppress(document.DocumentError):
        document.parse(data)
    try:
        config = parse([("a.yaml", data), ("b.yaml", data)])
    except ConfigError as error:
        errors = error.errors
    else:
        assert len(effective.fingerprint(config)) == 12
        return
    assert errors
    assert all(line.startswith(("a.yaml:", "b.yaml:")) and "\n" not in line for line in errors)


@given(st.dictionaries(st.sampled_from(WORDS), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(WORDS)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)),
    max_leaves=8,
)))  # fmt: skip
def test_well_formed_documents_of_any_shape(value: object) -> None:
    import json

    try:
        config = parse([("a.yaml", json.dumps(value).encode())])
    except ConfigError:
        return
    assert isinstance(config, Config)


@given(st.binary(max_size=200))
def test_uevents(data: bytes) -> None:
    event = module_event(data)
    assert event is None or event[0] in ("add", "remove")


@given(st.text())
def test_status_lines(text: str) -> None:
    line = ascii_line(text)
    assert len(line) == len(text)
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize(
    "text", ["scheduler: sh\nprofiles: [lvs-full]\n", "sysctls: {net.a.b: {atLeast: 3, policy: observe}}"]
)
def test_the_effective_configuration_configures_the_same(text: str) -> None:
    import json

    config = parse([("f", text.encode())])
    again = parse([("f", json.dumps(effective.as_mapping(config)).encode())])
    assert effective.fingerprint(again) == effective.fingerprint(config)
