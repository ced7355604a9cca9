"""Parse a web configuration file of the Prometheus exporter toolkit. Its other keys are errors, with the reason."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from ipvsd.config.document_reader import MappingReader
from ipvsd.config.parser import ConfigError
from ipvsd.config.value_readers import Reader, SettingError, kind, shown
from ipvsd.config.yaml_tree import Node, Scalar
from ipvsd.model.types import NOTHING

MAX_USERS = 100
MAX_COST = 14  # of bcrypt: about a second for each password, and a request lasts at most 10 s
VERSIONS = ("TLS12", "TLS13")
_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}\Z")
_OLD = ("TLS10", "TLS11")


class ClientAuth(enum.Enum):
    """Which client certificates the server requests, and verifies."""

    NONE = "NoClientCert"
    OPTIONAL = "VerifyClientCertIfGiven"
    REQUIRED = "RequireAndVerifyClientCert"


class TlsSettings(NamedTuple):
    """The paths are those of the file."""

    cert_file: str
    key_file: str
    client_ca_file: Optional[str] = None
    client_auth: ClientAuth = ClientAuth.NONE
    min_version: str = VERSIONS[0]
    max_version: str = VERSIONS[-1]


class WebConfig(NamedTuple):
    """Without `tls`, the server uses plain HTTP. Without `users`, it has no passwords.

    `origins` contains `file:line` for the users and each key of `tls`, such as `tls_server_config.key_file`.
    """

    tls: Optional[TlsSettings] = None
    users: Mapping[str, str] = NOTHING  # bcrypt hashes, by user name
    headers: Mapping[str, str] = NOTHING
    origins: Mapping[str, str] = NOTHING


def parse(name: str, data: bytes) -> WebConfig:
    """Return the settings of a file. Raises ConfigError with all errors."""
    reader = _Reader()
    config = reader.read(name, data)
    if reader.errors:
        raise ConfigError(reader.errors)
    return config


def _string(node: Node) -> str:
    if not isinstance(node, Scalar) or kind(node) != "a string" or not node.text:
        raise SettingError(f"must be a string, not {_shown(node)}")
    return node.text


def _path(node: Node) -> str:
    path = _string(node)
    if not path.isprintable() or len(path) > 1000:
        raise SettingError("must be a path")
    return path


def _client_auth(node: Node) -> ClientAuth:
    text = _string(node)
    if text in ("RequestClientCert", "RequireAnyClientCert"):
        problem = f"unsupported value {shown(text)}: ipvsd verifies every client certificate"
        raise SettingError(problem, f"use {ClientAuth.OPTIONAL.value} or {ClientAuth.REQUIRED.value}")
    known = {item.value: item for item in ClientAuth}
    if text not in known:
        raise SettingError(f"must be one of {', '.join(known)}", f"not {shown(text)}")
    return known[text]


def _version(node: Node) -> str:
    text = _string(node)
    if text in _OLD:
        raise SettingError(f"unsupported value {shown(text)}: RFC 8996 forbids this version", "use TLS12 or TLS13")
    if text not in VERSIONS:
        raise SettingError(f"must be one of {', '.join(VERSIONS)}", f"not {shown(text)}")
    return text


def _no_http2(node: Node) -> bool:
    if not isinstance(node, Scalar) or node.kind != "bool" or node.text.lower() != "false":
        raise SettingError(f"must be false, not {_shown(node)}", "ipvsd serves HTTP/1.1")
    return False


def _header(*values: str) -> Reader:
    def read(node: Node) -> str:
        text = _string(node)
        if not re.match(r"[!-~]([ -~]{0,2000}[!-~])?\Z", text):
            raise SettingError("must be one line of ASCII, of at most 2000 characters")
        if values and text not in values:
            raise SettingError(f"must be {' or '.join(values)}", f"not {shown(text)}")
        return text

    return read


def _unsupported(reason: str) -> Reader:
    def read(_: Node) -> None:
        raise SettingError("unsupported key", reason)

    return read


def _shown(node: Node) -> str:
    return shown(node.text) if isinstance(node, Scalar) and node.kind != "null" and node.text else kind(node)


_BY_OPENSSL = "OpenSSL's configuration determines this"
_INLINE = "ipvsd reads it only from a file: use {}"
# The field, and the reader. A key without a field is one of the toolkit that ipvsd does not support.
_TLS: Mapping[str, tuple[str, Reader]] = {
    "cert_file": ("cert_file", _path),
    "key_file": ("key_file", _path),
    "client_ca_file": ("client_ca_file", _path),
    "client_auth_type": ("client_auth", _client_auth),
    "min_version": ("min_version", _version),
    "max_version": ("max_version", _version),
    "cert": ("", _unsupported(_INLINE.format("cert_file"))),
    "key": ("", _unsupported(_INLINE.format("key_file"))),
    "client_ca": ("", _unsupported(_INLINE.format("client_ca_file"))),
    "client_allowed_sans": ("", _unsupported("use a certificate authority of its own for the clients")),
    "cipher_suites": ("", _unsupported(_BY_OPENSSL)),
    "curve_preferences": ("", _unsupported(_BY_OPENSSL)),
    "prefer_server_cipher_suites": ("", _unsupported(_BY_OPENSSL)),
}
_HEADERS: Mapping[str, Reader] = {
    "Content-Security-Policy": _header(),
    "Strict-Transport-Security": _header(),
    "X-Content-Type-Options": _header("nosniff"),
    "X-Frame-Options": _header("deny", "sameorigin"),
    "X-XSS-Protection": _header(),
}
SUPPORTED = tuple(key for key, (field, _) in _TLS.items() if field)


class _Reader(MappingReader):
    def __init__(self) -> None:
        super().__init__()
        self._tls: Optional[TlsSettings] = None
        self._users: dict[str, str] = {}
        self._headers: dict[str, Any] = {}
        self._origins: dict[str, str] = {}

    def read(self, name: str, data: bytes) -> WebConfig:
        self._file = name
        root = self._document(data)
        if root is not None:
            known: dict[str, Callable[[str, Node], None]] = {
                "tls_server_config": self._tls_config,
                "http_server_config": self._http_config,
                "basic_auth_users": self._user_list,
                "rate_limit": self._setting("", _unsupported("ipvsd limits the connections of each client"), {}, {}),
            }
            self._mapping("", root, known)
        return WebConfig(self._tls, self._users, self._headers, self._origins)

    def _tls_config(self, where: str, node: Node) -> None:
        found: dict[str, Any] = {}
        origins: dict[str, str] = {}
        before = len(self.errors)
        known = {key: self._setting(field, read, found, origins) for key, (field, read) in _TLS.items()}
        self._mapping(where, node, known)
        self._origins.update({f"{where}.{field}": origin for field, origin in origins.items()})
        missing = [key for key in ("cert_file", "key_file") if key not in found]
        if len(self.errors) > before or not found:
            return
        if missing:
            self._add_error(where, node, f"missing key '{missing[0]}'")
            return
        tls = TlsSettings(**found)
        if tls.client_auth is ClientAuth.NONE and tls.client_ca_file:
            hint = f"such as {ClientAuth.REQUIRED.value}"
            self._add_error(where, node, "'client_ca_file' requires 'client_auth_type'", hint)
        elif tls.client_auth is not ClientAuth.NONE and not tls.client_ca_file:
            self._add_error(where, node, f"client_auth_type {tls.client_auth.value} requires 'client_ca_file'")
        elif tls.min_version > tls.max_version:
            self._add_error(where, node, "'min_version' is above 'max_version'")
        else:
            self._tls = tls

    def _http_config(self, where: str, node: Node) -> None:
        headers = {key: self._setting(key, read, self._headers, {}) for key, read in _HEADERS.items()}
        known: dict[str, Callable[[str, Node], None]] = {
            "headers": lambda inner, item: self._mapping(inner, item, headers),
            "http2": self._setting("", _no_http2, {}, {}),
        }
        self._mapping(where, node, known)

    def _user_list(self, where: str, node: Node) -> None:
        self._origins[where] = self.origin(node)
        for key, item in self._pairs(where, node):
            place = f"{where}.{shown(key.text, quote=False)}"
            if not key.text.isprintable() or ":" in key.text or not 1 <= len(key.text) <= 200:
                self._add_error(place, key, "invalid user name", "use printable characters without ':'")
                continue
            match = _HASH.match(item.text) if isinstance(item, Scalar) else None
            if match is None:
                # A text that is not a hash can be the password itself, so the message does not contain it.
                self._add_error(place, item, "must be a bcrypt hash", "'htpasswd -nBC 10 USER' prints one")
            elif not 4 <= int(match[1]) <= MAX_COST:
                self._add_error(place, item, f"the cost of the hash must be between 4 and {MAX_COST}, not {match[1]}")
            else:
                self._users[key.text] = match[0]
        if len(self._users) > MAX_USERS:
            self._add_error(where, node, f"must not contain more than {MAX_USERS} users")
