"""The web configuration file, and certificates."""

from __future__ import annotations

from hypothesis import example
from hypothesis import strategies as st

from ipvsd.config.parser import ConfigError
from ipvsd.config.web_config import MAX_COST, TlsSettings, WebConfig, parse
from ipvsd.runtime.certificate_expiry import expiry
from tests.fuzz.inputs import hostile, words
from tests.fuzz.properties import fuzz

KEYS = """
tls_server_config basic_auth_users http_server_config rate_limit headers http2 cert_file key_file client_ca_file
client_auth_type min_version max_version cipher_suites X-Frame-Options X-XSS-Protection a
""".split()
VALUES = [
    "a.crt", "TLS12", "TLS13", "TLS10", "RequireAndVerifyClientCert", "NoClientCert", "deny", "false", "true", "~", "1",
    "[]", "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG", '"a\\nb"', "",
]  # fmt: skip
MAPPINGS = st.recursive(
    st.sampled_from(VALUES),
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=6).map(
        lambda found: "{" + ", ".join(f"{key}: {value}" for key, value in found.items()) + "}"
    ),
    max_leaves=12,
)
FILE = hostile(st.one_of(MAPPINGS, words(*KEYS, ":", "{", "}", "\n", "  ", apart=" ", most=20)))


@fuzz(FILE, seconds=1.0)
@example(b"[" * 10_000)
def test_a_file_has_settings_that_can_be_used_or_errors_that_can_be_shown(data: bytes) -> None:
    errors: tuple[str, ...] = ()
    config = WebConfig()
    try:
        config = parse("web.yml", data)
    except ConfigError as error:
        errors = error.errors or ("no reason",)
    assert all(line.startswith("web.yml") and line.isprintable() and len(line) < 2000 for line in errors)
    assert isinstance(config.tls, (TlsSettings, type(None)))
    assert all(4 <= int(text[4:6]) <= MAX_COST and len(text) == 60 for text in config.users.values())
    assert all(value.isascii() and value.isprintable() for value in config.headers.values())


@fuzz(hostile(st.binary(max_size=200).map(lambda data: data.hex())), seconds=1.0)
def test_any_bytes_have_an_expiry_or_none(data: bytes) -> None:
    import base64

    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(data) + b"\n-----END CERTIFICATE-----\n"
    assert isinstance(expiry(pem), (float, type(None)))
