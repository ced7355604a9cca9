"""Answers and files of kube-proxy, its log, and the logs of security modules."""

from __future__ import annotations

import json

from hypothesis import example
from hypothesis import strategies as st

from ipvsd.config.yaml_tree import DocumentError
from ipvsd.discovery import processes
from ipvsd.doctor import denials, interfaces, redaction, remains
from ipvsd.kube_proxy import answers, log_errors
from ipvsd.runtime import http_client
from tests.fuzz.inputs import hostile, lines, text, words
from tests.fuzz.properties import fuzz

MODES = st.sampled_from(["ipvs", "iptables", "nftables", "IPVS", "", "\x1b[31m"])
SETTINGS = st.dictionaries(
    st.sampled_from(["Mode", "mode", "IPVS", "ipvs", "MetricsBindAddress", "x"]),
    st.one_of(
        MODES, st.none(), st.integers(), st.lists(st.booleans(), max_size=2),
        st.dictionaries(st.sampled_from(["Scheduler", "strictARP"]), st.one_of(MODES, st.booleans()), max_size=2),
    ),
    max_size=4,
)  # fmt: skip
CONFIGZ = hostile(SETTINGS.map(lambda values: json.dumps({"kubeproxy.config.k8s.io": values})))
CONFIG = hostile(SETTINGS.map(json.dumps))
METRICS = hostile(lines(st.just('kubernetes_build_info{git_version="v1.30.5",major="1"} 1'), words("x", "1")))
ANSWER = hostile(
    st.builds(
        "HTTP/1.0 {} OK\r\n{}\r\n\r\n{}".format,
        st.sampled_from(["200", "503", "99", "x"]),
        st.sampled_from(["Content-Length: 4", "content-length: 9999999999", "Transfer-Encoding: chunked", "a: b"]),
        MODES,
    )
)
FLAGS = st.lists(
    st.sampled_from(["--config", "--config=x", "--proxy-mode", "--cleanup", "--ipvs-strict-arp=True", "ipvs", "--", ""])
)
LOG = hostile(
    lines(
        words(
            "E1127", "Could not create dummy VS", "scheduler=", '"', "can't use the IPVS proxier:", "ipvs not supported"
        ),
        words(
            "required kernel modules are not loaded: [",
            "ip_vs",
            "]",
            "{x}",
            "listen tcp x: bind: address already in use",
        ),
    )
)
DENIALS = hostile(
    lines(
        words("avc:  denied  { write } for ", 'comm="kube-proxy"', "name=x", 'path="/proc/sys/net/x"', 'scontext="'),
        words('apparmor="DENIED" operation="open"', 'profile="', "comm=modprobe", 'name="/lib/modules/'),
    )
)
SECRET = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=40)


@fuzz(CONFIGZ)
def test_an_answer_of_configz_yields_short_printable_texts(data: bytes) -> None:
    found = answers.parse_configz(data)
    for value in found[:2] if found else ():
        assert value is None or (isinstance(value, str) and len(value) <= 60 and value.isprintable())
    assert found is None or found.strict_arp in (None, True, False)


@fuzz(CONFIG)
@example(b"[" * 10_000)
def test_a_configuration_is_read_or_refused(data: bytes) -> None:
    try:
        found = answers.parse_config(data)
    except DocumentError:
        return
    assert found.mode is None or found.mode.isprintable()


@fuzz(METRICS)
def test_a_version_is_small(data: bytes) -> None:
    written, version = answers.parse_version(data)
    assert (version is None) == (written == "")
    assert len(written) < 60
    assert version is None or max(version) < 1000


@fuzz(ANSWER, st.integers(0, 100))
def test_an_answer_is_parsed_within_its_limit_or_refused(data: bytes, limit: int) -> None:
    try:
        found = http_client.parse(data, limit)
    except http_client.HttpError:
        return
    assert 100 <= found.status < 600
    assert len(found.body) <= limit


@fuzz(FLAGS)
def test_flags_are_known_ones(given: list[str]) -> None:
    assert set(processes.parse_flags(given)) <= set(processes.KNOWN_FLAGS)
    assert processes.parse_flags([*given, "x", "--config=last"])["config"] == "last"


@fuzz(st.integers(0, 599), hostile(st.just('{"lastUpdated": "x", "nodeEligible": false}')))
def test_health_is_decided_by_the_status(status: int, data: bytes) -> None:
    assert answers.parse_healthz(status, data).healthy is (status == 200)


@fuzz(LOG)
def test_an_explained_line_is_printable_and_has_a_fix(data: bytes) -> None:
    found = log_errors.last_known(text(data).split("\n"))
    if found:
        assert found.line.isprintable()
        assert found.fix.isprintable()
        assert found.known in log_errors.KNOWN
    assert log_errors.last_error(text(data).split("\n")).isprintable()


@fuzz(DENIALS)
def test_a_denial_is_printable(data: bytes) -> None:
    found = [denials.parse(line) for line in text(data).split("\n")]
    for finding in denials.findings([item for item in found if item]):
        assert all(line.isprintable() for line in finding.evidence)
    interfaces.networkd_manages(text(data))
    remains.iptables_chains(text(data))


@fuzz(hostile(lines(words("token", "=", ": ", "password", "x", '"'))), SECRET)
@example(b"-" * (1 << 16), "00000000")
@example(b"=" * (1 << 16), "00000000")
@example(b"token " * (1 << 13), "00000000")
def test_a_named_secret_is_removed_whatever_surrounds_it(data: bytes, secret: str) -> None:
    marked = f"{secret}Zq9"
    for name in ("token", "client_secret", "PASSWORD"):
        assert marked not in redaction.redact(f"{name}={marked} ")
    around = f"{text(data)}\npassword: {marked}\n{text(data)}"
    assert f"password: {marked}" not in redaction.redact(around)
    assert len(redaction.redact(around)) <= 30 * len(around)
