"""The web configuration file: the supported part of the exporter toolkit's format, and the errors for the rest."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ipvsd.config.parser import ConfigError
from ipvsd.config.web_config import ClientAuth, TlsSettings, WebConfig, parse
from ipvsd.daemon.web_configuration import WebConfiguration
from ipvsd.model.report import Operation
from ipvsd.model.types import NOTHING
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.runtime import tls
from ipvsd.runtime.event_loop import EventLoop
from tests.scarce import few_descriptors
from tests.trees import put

assert tls  # a late import would need descriptors

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
FILES = "cert_file: a.crt, key_file: a.key"


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("", WebConfig()),
        ("tls_server_config: {}\nbasic_auth_users:\nhttp_server_config:\n", WebConfig()),
        (f"tls_server_config: {{{FILES}}}", WebConfig(TlsSettings("a.crt", "a.key"))),
        (
            f"tls_server_config: {{{FILES}, client_ca_file: /ca, client_auth_type: RequireAndVerifyClientCert, "
            "min_version: TLS13, max_version: TLS13}",
            WebConfig(TlsSettings("a.crt", "a.key", "/ca", ClientAuth.REQUIRED, "TLS13", "TLS13")),
        ),
        (f"basic_auth_users: {{a b: {HASH}}}", WebConfig(users={"a b": HASH})),
        (
            "http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: '0'}}",
            WebConfig(headers={"X-Frame-Options": "deny", "X-XSS-Protection": "0"}),
        ),
    ],
)
def test_a_supported_file_is_read(text: str, config: WebConfig) -> None:
    assert parse("web.yml", text.encode())._replace(origins=NOTHING) == config


def test_the_line_of_each_file_is_known() -> None:
    text = f"tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\nbasic_auth_users: {{a: {HASH}}}\n"
    assert parse("web.yml", text.encode()).origins == {
        "tls_server_config.cert_file": "web.yml:2",
        "tls_server_config.key_file": "web.yml:3",
        "basic_auth_users": "web.yml:4",
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tls: {}", "1: unknown key 'tls' (known: tls_server_config, "),
        ("a", "1: must be a mapping, not a string"),
        ("tls_server_config: {", "1: invalid YAML: "),
        ("\ntls_server_config: {cert_file: a}", "2: tls_server_config: missing key 'key_file'"),
        (f"tls_server_config: {{{FILES}, cert: x}}", "1: tls_server_config.cert: unsupported key (ipvsd reads it only"),
        (f"tls_server_config: {{{FILES}, cipher_suites: []}}", "1: tls_server_config.cipher_suites: unsupported key ("),
        (
            f"tls_server_config: {{{FILES}, min_version: TLS11}}",
            "1: tls_server_config.min_version: unsupported value '",
        ),
        (f"tls_server_config: {{{FILES}, min_version: 1.2}}", "1: tls_server_config.min_version: must be a string, no"),
        (
            f"tls_server_config: {{{FILES}, min_version: TLS13, max_version: TLS12}}",
            "1: tls_server_config: 'min_version' is above 'max_version'",
        ),
        (f"tls_server_config: {{{FILES}, client_ca_file: a}}", "1: tls_server_config: 'client_ca_file' requires 'clie"),
        (
            f"tls_server_config: {{{FILES}, client_auth_type: RequireAndVerifyClientCert}}",
            "1: tls_server_config: client_auth_type RequireAndVerifyClientCert requires 'client_ca_file'",
        ),
        (
            f"tls_server_config: {{{FILES}, client_auth_type: RequireAnyClientCert}}",
            "1: tls_server_config.client_auth_type: unsupported value 'RequireAnyClientCert': ipvsd verifies",
        ),
        ("http_server_config: {http2: true}", "1: http_server_config.http2: must be false, not 'true' (ipvsd serves"),
        (
            "http_server_config: {headers: {Server: a}}",
            "1: http_server_config.headers: unknown key 'Server' (known: C",
        ),
        ("http_server_config: {headers: {X-Frame-Options: no}}", "1: http_server_config.headers.X-Frame-Options: must"),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb: c"}}', "1: http_server_config.headers.X-XSS-Pro"),
        ("basic_auth_users: {a: secret}", "1: basic_auth_users.a: must be a bcrypt hash ("),
        (f"basic_auth_users: {{a: {HASH.replace('10', '31', 1)}}}", "1: basic_auth_users.a: the cost of the hash must"),
        (f"basic_auth_users: {{'a:b': {HASH}}}", "1: basic_auth_users.a:b: invalid user name ("),
        (f"basic_auth_users: {{a: {HASH}, a: {HASH}}}", "1: basic_auth_users: duplicate key 'a' (first on line 1)"),
        ("rate_limit: {}", "1: rate_limit: unsupported key ("),
    ],
)
def test_any_other_file_is_rejected(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse("web.yml", text.encode())
    (found,) = raised.value.errors
    assert found.startswith(f"web.yml:{error}")
    assert "secret" not in found


def test_a_certificate_without_descriptors_to_load_it_is_loaded_again(tmp_path: Path) -> None:
    put(tmp_path, "web.yml", f"tls_server_config: {{{FILES}}}\n")
    put(tmp_path, "a.crt", "-----BEGIN CERTIFICATE-----\n")
    put(tmp_path, "a.key", "-----BEGIN PRIVATE KEY-----\n")
    failures = OperationFailures()
    name = Operation.LOAD_WEB_CONFIGURATION.value
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(EventLoop())
        configuration = WebConfiguration(str(tmp_path), loop, failures, lambda: None)
        stack.callback(configuration.close)
        with few_descriptors(2):  # enough to read a file
            configuration.use("/web.yml")
        assert failures.current[name].endswith("cannot load the certificate: Too many open files")
        configuration.check()
        assert "OpenSSL cannot use it" in failures.current[name]
