"""TLS for the HTTP server, imported only if it is configured.

Facts:
- TLS takes 1.4 MB, most of it pages of OpenSSL's code. prometheus-client imports ssl also without TLS.
- OpenSSL before 3.0 accepts renegotiation, with which a client can keep a processor busy.
- OpenSSL caches the sessions of TLS 1.2 clients that do not use tickets, up to 20480 of them. Python cannot limit the
  number (SSL_CTX_sess_set_cache_size).
- ssl reads a certificate and its key only from files, which can be replaced between the two reads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import ssl
import time
from typing import Optional

from ipvsd.runtime.http_connection import Connection, InvalidRequestError, Stage
from ipvsd.runtime.http_request import RequestError
from ipvsd.runtime.http_security import Security

_MAX_SESSIONS = 64  # sessions in the cache of a context, after which it is replaced
_TRIM_AFTER = 32  # connections with TLS, after which the memory that glibc keeps is released
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class TlsError(Exception):
    """A file cannot be used. `field` is its key, and `reason` the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


class Tls:
    """The certificate and the settings of a server. `context` is only for the server's thread."""

    def __init__(
        self,
        certificate: bytes,
        key: bytes,
        client_ca: Optional[bytes] = None,
        required: bool = False,
        versions: tuple[str, str] = ("TLS12", "TLS13"),
    ) -> None:
        """`client_ca` verifies client certificates, which are `required` or optional. Raises TlsError and OSError."""
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._required, self._versions = required, versions
        self._context = self._create()

    @property
    def context(self) -> ssl.SSLContext:
        if self._context.session_stats()["number"] > _MAX_SESSIONS:
            with contextlib.suppress(OSError, TlsError):  # without a descriptor, the present one has to do
                self._context = self._create()
        return self._context

    def _create(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = (_VERSIONS[name] for name in self._versions)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        _load_certificate(context, self._certificate, self._key)
        if self._client_ca is not None:
            try:
                context.load_verify_locations(cadata=self._client_ca.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                raise TlsError("client_ca_file", _reason(error)) from None
            context.verify_mode = ssl.CERT_REQUIRED if self._required else ssl.CERT_OPTIONAL
        return context


def _load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Use a certificate and its key. Raises TlsError and OSError."""
    for field, data, name in (("cert_file", certificate, b"CERTIFICATE"), ("key_file", key, b"PRIVATE KEY")):
        if b"-----BEGIN " not in data or name not in data:
            raise TlsError(field, f"the file contains no {name.decode().lower()} in PEM format")

    def ask() -> str:
        raise TlsError("key_file", "the key is encrypted (ipvsd cannot ask for its password)")

    with contextlib.ExitStack() as stack:
        try:
            context.load_cert_chain(_in_memory(stack, certificate), _in_memory(stack, key), ask)
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            reason = "the key does not belong to the certificate" if mismatch else _reason(error)
            raise TlsError("key_file" if mismatch else "cert_file", reason) from None


def _in_memory(stack: contextlib.ExitStack, data: bytes) -> str:
    """Return a path under which only this process can read these bytes. Raises OSError."""
    fd = os.memfd_create("ipvsd", os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])
    return f"/proc/self/fd/{fd}"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return f"OpenSSL cannot use it: {reason.replace('_', ' ').lower()}" if reason else "OpenSSL cannot use it"


class TlsConnection(Connection):
    """A connection whose handshake takes place with the first bytes."""

    def __init__(self, opened: socket.socket, peer: str, now: float, security: Security, tls: Tls) -> None:
        """Raises OSError, and then the socket is closed."""
        try:
            wrapped = tls.context.wrap_socket(opened, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            opened.close()
            raise OSError(str(error)) from None
        super().__init__(wrapped, peer, now, security)
        self._tls: Optional[ssl.SSLSocket] = wrapped
        self._greeted = False  # True after the complete hello of the client, or with TLS 1.2 after the handshake

    def _receive(self, size: int) -> bytes:
        assert self._tls is not None
        try:
            data = self._tls.recv(size)
        except ssl.SSLWantReadError:
            self._note_hello()
            self.wanted = select.EPOLLIN
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wanted = select.EPOLLOUT
            raise BlockingIOError from None
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST":
                raise
            self._leave()
            raise InvalidRequestError(RequestError(400, "HTTP request on a port for HTTPS")) from None
        self.wanted = select.EPOLLIN
        return data

    def _note_hello(self) -> None:
        """Begin the time of the client again when the server has replied to its hello: the reply is the server's work.

        Single bytes of a hello do not extend the time. With TLS 1.2, the time begins again after the handshake.
        """
        # OpenSSL shows the cipher when it has received the hello of TLS 1.3, or completed the handshake of TLS 1.2.
        if not self._greeted and self._tls is not None and self._tls.cipher() is not None:
            self._greeted = True
            self.begun = time.monotonic()

    @property
    def prompt(self) -> bool:
        return super().prompt or (self._greeted and self.stage is Stage.RECEIVE and not self.begins)

    @property
    def _buffered(self) -> bool:
        return self._tls is not None and self._tls.pending() > 0

    def _send(self, data: memoryview) -> int:
        if self._tls is None:
            return self.socket.send(data)
        try:
            return self._tls.send(data)
        except ssl.SSLWantReadError:
            self.wanted = select.EPOLLIN
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wanted = select.EPOLLOUT
            raise BlockingIOError from None

    def _end(self) -> None:
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):  # the client need not confirm the end
                self._tls.unwrap()
            self._leave()
        self.socket.shutdown(socket.SHUT_WR)

    def _leave(self) -> None:
        """Continue without TLS, on the same descriptor."""
        assert self._tls is not None
        # With all three, Python asks the kernel for none of them, which could fail and leak the descriptor.
        family, kind, protocol = self._tls.family, self._tls.type, self._tls.proto
        self.socket = socket.socket(family, kind, protocol, fileno=self._tls.detach())
        self.socket.setblocking(False)
        self._tls = None

    def close(self, reset: bool) -> None:
        super().close(reset)
        self._tls = None


class MemoryTrimmer:
    """Returns the memory of past connections to the kernel, which glibc otherwise keeps (malloc_trim(3))."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._closed = 0

    def count(self) -> None:
        self._closed += 1

    def trim(self) -> None:
        """Release the memory if enough connections were closed."""
        if self._closed >= _TRIM_AFTER and hasattr(self._libc, "malloc_trim"):
            self._closed = 0
            self._libc.malloc_trim(0)
