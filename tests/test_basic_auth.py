"""Basic authentication with the C library: correct and wrong passwords, and the bounds of the queue."""

from __future__ import annotations

import base64
import threading
import time
from pathlib import Path
from typing import Optional

import pytest

from ipvsd.config.parser import ConfigError
from ipvsd.reporting import web_security
from ipvsd.runtime import basic_auth
from ipvsd.runtime.basic_auth import (
    MAX_QUEUED_PER_PEER,
    Credentials,
    Job,
    PasswordChecker,
    Users,
    crypt,
    require_bcrypt,
)
from tests.trees import put

# Of bcrypt's authors (crypt_blowfish, wrapper.c): the prefixes that htpasswd and others write have the same meaning.
KNOWN = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
PASSWORD = "U*U"


def header(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize("prefix", ["$2a", "$2b", "$2y"])
def test_a_password_is_verified_and_then_known(prefix: str) -> None:
    require_bcrypt()
    users = Users({"a": KNOWN.replace("$2a", prefix)})
    credentials = users.parse(header(b"a:" + PASSWORD.encode()))
    assert credentials == Credentials("a", PASSWORD.encode())
    assert not users.verified(credentials)
    assert users.verify(credentials)
    assert users.verified(credentials)


@pytest.mark.parametrize("credentials", [Credentials("a", b"U*"), Credentials("a", b""), Credentials("b", b"U*U")])
def test_a_wrong_password_and_an_unknown_user_are_rejected(credentials: Credentials) -> None:
    users = Users({"a": KNOWN})
    assert not users.verify(credentials)
    assert not users.verified(credentials)


@pytest.mark.parametrize("user", ["cheap", "usual", "costly", "unknown", ""])
def test_a_wrong_password_takes_equal_time_for_every_user(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is counted, because a measured time varies: bcrypt repeats its key schedule 2**cost times."""
    work: list[int] = []

    def count(password: bytes, setting: bytes) -> Optional[bytes]:
        work.append(1 << int(setting[4:6]))
        return crypt(password, setting)

    hashes = {name: f"$2y$0{cost}${KNOWN[7:]}" for name, cost in {"cheap": 4, "usual": 5, "costly": 7}.items()}
    users = Users(hashes)
    with monkeypatch.context() as patched:
        patched.setattr(basic_auth, "crypt", count)
        assert not users.verify(Credentials(user, b"wrong"))
    assert sum(work) == 1 << 7


@pytest.mark.parametrize(
    "text",
    [
        None, "", "Basic", "Basic !", "Bearer YTpi", header(b"a"), header(b"\xff:b"), header(b"a:" + b"b" * 2000),
        header(b"a:U*U\0"),
    ],
)  # fmt: skip
def test_a_header_without_usable_credentials_is_not_verified(text: Optional[str]) -> None:
    assert Users({"a": KNOWN}).parse(text) is None


def test_a_library_without_bcrypt_hashes_nothing() -> None:
    assert crypt(b"", b"$7$unknown") in (None, b"*0")


@pytest.mark.parametrize("library", ["absent", "without bcrypt"])
def test_without_bcrypt_a_file_with_users_is_rejected_with_the_reason(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        crypt_rn = staticmethod(lambda *_: b"*0")  # crypt(3): the method is not supported

    monkeypatch.setattr(basic_auth, "_library", lambda: None if library == "absent" else Old)
    put(tmp_path, "web.yml", f"http_server_config: {{}}\nbasic_auth_users: {{prometheus: {KNOWN}}}\n")
    with pytest.raises(ConfigError) as caught:
        web_security.require_valid(str(tmp_path), "/web.yml")
    reason = "basic_auth_users: the C library does not support bcrypt (crypt(5))"
    assert caught.value.errors == (f"{tmp_path}/web.yml:2: {reason}",)


def test_the_queue_is_bounded_for_each_client() -> None:
    checker, users, held = PasswordChecker(), Users({"a": KNOWN}), threading.Event()
    results: list[bool] = []

    def job(peer: str) -> Job:
        return Job(peer, users, Credentials("a", PASSWORD.encode()), lambda: held.wait(10), results.append)

    submitted = [checker.submit(job("first")) for _ in range(MAX_QUEUED_PER_PEER + 2)]
    assert submitted[:MAX_QUEUED_PER_PEER] == [True] * MAX_QUEUED_PER_PEER
    assert submitted[-1] is False
    done = threading.Event()

    def finish(correct: bool) -> None:
        results.append(correct)
        done.set()

    assert checker.submit(job("second")._replace(done=finish))
    held.set()
    assert done.wait(10)
    checker.stop()
    assert set(results) == {True}


def test_many_wrong_passwords_use_a_part_of_a_processor() -> None:
    hashed = (crypt(b"a", b"$2b$08$abcdefghijklmnopqrstuu") or b"").decode()
    checker, users, done = PasswordChecker(), Users({"a": hashed}), threading.Event()
    results: list[bool] = []

    def finish(correct: bool) -> None:
        results.append(correct)
        if len(results) == MAX_QUEUED_PER_PEER:
            done.set()

    begun, used = time.monotonic(), time.process_time()
    for _ in range(MAX_QUEUED_PER_PEER):
        assert checker.submit(Job("a", users, Credentials("a", b"wrong"), lambda: True, finish))
    assert done.wait(10)
    assert time.process_time() - used < 0.7 * (time.monotonic() - begun)
    checker.stop()
    assert not any(results)
