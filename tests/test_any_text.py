"""No text, however strange, makes a parser raise anything but its own error."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd import document, effective, formats, sysctls
from ipvsd.config import Config, ConfigError, parse
from ipvsd.model import Exactly
from ipvsd.rivals import Names, firewalld, modules, networkd, networkmanager, sysctl_d, tuned
from ipvsd.rivals.survey import agrees
from ipvsd.rivals.tree import Tree
from ipvsd.watch.uevents import module_event

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


class Texts(Tree):
    """A tree that exists only here."""

    def __init__(self, files: Mapping[str, str]) -> None:
        super().__init__("/nowhere")
        self._files = files

    def read(self, path: str) -> Optional[str]:
        return self._files.get(path)

    def names(self, directory: str) -> Collection[str]:
        inside = (path[len(directory) + 1 :] for path in self._files if path.startswith(f"{directory}/"))
        return {path.partition("/")[0] for path in inside}


UNITS = ("tuned", "firewalld", "NetworkManager", "systemd-networkd")
ENABLED = {f"etc/systemd/system/a.wants/{unit}.service": "" for unit in UNITS}
FILES = """
etc/sysctl.d/a.conf run/sysctl.d/b.conf etc/sysctl.conf proc/cmdline etc/modprobe.d/a.conf etc/modules-load.d/a.conf
etc/systemd/networkd.conf etc/systemd/network/a.network etc/systemd/network/a.network.d/b.conf
etc/tuned/tuned-main.conf etc/tuned/active_profile etc/tuned/a/tuned.conf usr/lib/tuned/b/tuned.conf
etc/firewalld/firewalld.conf usr/lib/python3/dist-packages/firewall/config/__init__.py
etc/NetworkManager/NetworkManager.conf etc/NetworkManager/conf.d/a.conf
""".split()
SAID = """
net.ipv4.ip_forward net/ipv4/conf/*/forwarding -net.ipv4.ip_forward net.ipv4.conf.[ = 0 1 >5 "1" ${x} # ; \\ , * ? [ ] !
[sysctl] [Network] [Match] [main] [keyfile] [device] include type=sysctl replace=1 drop a b a, Name=eth* Name=!
IPForward=yes IPv4Forwarding=no unmanaged-devices= except: interface-name: match-device managed=0 profile_dirs=
reapply_sysctl=1 reapply_sysctl_exclude=[ CleanupModulesOnExit=yes options blacklist install ip_vs ip_vs.x=1
modules_load= sysctl. sysctl.net.ipv4.ip_forward=
""".split()
LINE = st.lists(st.one_of(st.sampled_from(SAID), st.text(max_size=8)), max_size=5)
TEXT = st.lists(st.tuples(LINE, st.sampled_from(["", " "])), max_size=6).map(
    lambda lines: "\n".join(between.join(words) for words, between in lines)
)


@given(st.dictionaries(st.sampled_from(FILES), TEXT, max_size=6))
def test_the_files_of_neighbours(files: Mapping[str, str]) -> None:
    tree = Texts({**ENABLED, **files})
    names = Names(["net.ipv4.ip_forward", "net.ipv4.conf.eth0.forwarding"], ["ip_vs.x"], ["ip_vs"])
    for reader in (modules, sysctl_d, networkd, tuned, firewalld, networkmanager):
        for setting in reader.settings(tree, names):
            assert "\n" not in f"{setting.origin}{setting.text}{setting.value}"
            assert agrees(setting, Exactly("1")) in (True, False, None)


@pytest.mark.parametrize(
    "text", ["scheduler: sh\nprofiles: [lvs-full]\n", "sysctls: {net.a.b: {atLeast: 3, policy: observe}}"]
)
def test_the_effective_configuration_configures_the_same(text: str) -> None:
    import json

    config = parse([("f", text.encode())])
    again = parse([("f", json.dumps(effective.as_mapping(config)).encode())])
    assert effective.fingerprint(again) == effective.fingerprint(config)
