"""Basic authentication (RFC 7617) with bcrypt, by crypt_rn(3) of the C library.

Facts:
- bcrypt ignores everything after the first 72 bytes, and crypt(3) everything after a NUL.
- libxcrypt provides crypt_rn. Its library is libcrypt.so.1 on Debian, and libcrypt.so.2 elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import functools
import hashlib
import hmac
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
_CRYPT_DATA = 32768  # sizeof(struct crypt_data), <crypt.h>
_MAX_CREDENTIALS = 1024  # bytes
_MAX_CACHED = 256
MAX_QUEUED = 16  # passwords that wait
MAX_QUEUED_PER_PEER = 8
_PAUSE = 2.0  # times as long as a verification: many wrong passwords use at most a third of a processor


class NoBcryptError(Exception):
    """The C library does not support bcrypt."""


@functools.cache
def _library() -> Any:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            library.crypt_rn.restype = ctypes.c_char_p
        except (OSError, AttributeError):  # without the function, it is the one of an old glibc
            continue
        return library
    return None


def crypt(password: bytes, setting: bytes) -> Optional[bytes]:
    """Return the hash of a password, or None if the library does not support its method."""
    library = _library()
    if library is None:
        return None
    buffer = ctypes.create_string_buffer(_CRYPT_DATA)
    hashed: Optional[bytes] = library.crypt_rn(password, setting, buffer, _CRYPT_DATA)
    return hashed


def require_bcrypt() -> None:
    """Raises NoBcryptError."""
    hashed = crypt(b"", b"$2b$04$abcdefghijklmnopqrstuu")
    if hashed is None or not hashed.startswith(b"$2b$04$"):
        raise NoBcryptError("the C library does not support bcrypt (crypt(5))")


class Credentials(NamedTuple):
    user: str
    password: bytes


def _cost(hashed: bytes) -> int:
    """Return the cost in a hash of bcrypt, such as `$2b$10$...`."""
    return int(hashed[4:6])


class Users:
    """The users with their hashes. Verified credentials are remembered as keyed hashes."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {user: text.encode("ascii") for user, text in hashes.items()}
        self._slowest = max(self._hashes.values(), key=_cost)
        self._key = os.urandom(32)
        self._verified: OrderedDict[bytes, None] = OrderedDict()

    def parse(self, header: Optional[str]) -> Optional[Credentials]:
        """Return the credentials of an Authorization header, or None if there are none that can be valid."""
        scheme, _, encoded = (header or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
            name, colon, password = decoded.partition(b":")
            user = name.decode()
        except (binascii.Error, ValueError):
            return None
        if not colon or b"\0" in password or len(decoded) > _MAX_CREDENTIALS:
            return None
        return Credentials(user, password)

    def verified(self, credentials: Credentials) -> bool:
        """Return whether these credentials were verified before."""
        return self._digest(credentials) in self._verified

    def verify(self, credentials: Credentials) -> bool:
        """Return whether the password is correct.

        A wrong password takes the time of the user whose hash has the highest cost, also for an unknown user. So the
        time does not show which users exist.
        """
        known = self._hashes.get(credentials.user)
        setting = known or self._slowest
        hashed = crypt(credentials.password, setting)
        correct = hmac.compare_digest(hashed or b"", setting) and known is not None
        if correct:
            self._verified[self._digest(credentials)] = None
            while len(self._verified) > _MAX_CACHED:
                self._verified.popitem(last=False)
        else:
            # The work of bcrypt is 2**cost, and 2**c + (2**c + 2**(c+1) + ... + 2**(m-1)) is 2**m.
            for cost in range(_cost(setting), _cost(self._slowest)):
                crypt(credentials.password, b"%b%02d%b" % (setting[:4], cost, setting[6:]))
        return correct

    def _digest(self, credentials: Credentials) -> bytes:
        text = credentials.user.encode() + b"\0" + credentials.password
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()


class Job(NamedTuple):
    """`needed` returns whether the client is still there, and `done` receives the result in the other thread."""

    peer: str
    users: Users
    credentials: Credentials
    needed: Callable[[], bool]
    done: Callable[[bool], None]


class PasswordChecker:
    """Verifies passwords in a thread of its own, because bcrypt is slow. The queue is bounded."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._thread: Optional[threading.Thread] = None
        self._stopping = False

    def submit(self, job: Job) -> bool:
        """Verify credentials, unless too many others wait. Return whether `done` will be called, or is not needed."""
        with self._changed:
            of_peer = sum(1 for other in self._jobs if other.peer == job.peer)
            if len(self._jobs) >= MAX_QUEUED or of_peer >= MAX_QUEUED_PER_PEER:
                return False
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="passwords", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread can start
                    return False
                self._thread = thread
            self._jobs.append(job)
            self._changed.notify()
        return True

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._jobs.clear()
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                job = self._jobs.popleft()
            if job.needed():
                begun = time.monotonic()
                job.done(job.users.verified(job.credentials) or job.users.verify(job.credentials))
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, _PAUSE * (time.monotonic() - begun))
