"""Generated configurations: the persisted file, judged by systemd-sysctl in a real /proc/sys/net."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ipvsd.boot.drop_in_files import SYSCTL
from ipvsd.config.schema import Config
from ipvsd.sysctl.values import satisfies
from tests.differential.sandbox import breadth, dice, judged
from tests.test_sysctl_drop_in import body, config, held, path, universe, valid

pytestmark = pytest.mark.differential

MADE = ("eth0", "eth0.1", "veth1", "a*b", "br[0]", "back\\s", "\xc3\xa9", "\xff")
LINKS = ("all", "default", "lo", *MADE, *(f"{link}-" for link in MADE))
SHOWN = ("all", "default", "lo", "eth0", "eth0/1", r"a\x2ab", r"br\x5b0]", r"back\x5cs", r"\xc3\xa9", r"\xff")
WILD = ("*", "*", "*", "eth*", "?*", "[!l]*", "l?", "*-", r"a\x2a*", r"*\xff", "[a-e]*", "al[l]")
LEAVES = ("rp_filter", "forwarding", "arp_ignore")
EXCLUDES = ("all", "default", "lo", "eth0.1", "veth*", "v*", "*1", "*-", r"a\x2ab", r"a\x2a*", "[ad]*", r"\xff")


def settings(chance: random.Random) -> Mapping[str, Any]:
    """Return random settings of some sysctls."""
    made: dict[str, Any] = {}
    for _ in range(chance.randrange(1, 5)):
        key = f"net.ipv4.conf.{chance.choice(chance.choice([SHOWN, WILD, WILD]))}.{chance.choice(LEAVES)}"
        key = "net.ipv4.ip_forward" if chance.random() < 0.1 else key
        made[key] = {"value": chance.randrange(3), "exclude": chance.sample(EXCLUDES, chance.randrange(3))}
        if chance.random() < 0.2:
            made[key] = chance.choice([False, {**made[key], "policy": "observe"}])
    return valid(made)


def test_the_persisted_file_does_what_the_daemon_does(tmp_path: Path) -> None:
    configs = [config(settings(dice(number))) for number in range(breadth())]
    keys = ["/".join(path) for path in universe(LINKS)]
    cases = [{"kind": "sysctl", "links": MADE, "files": [(SYSCTL, content(made))], "keys": keys} for made in configs]
    wrong = []
    for made, case, answer in zip(configs, cases, judged(tmp_path, cases)):
        wrong += [f"{told}: {case['files'][0][1]}" for told in differences(made, answer["before"], answer["systemd"])]
    assert not wrong, f"{len(wrong)} differences, of which the first are\n" + "\n".join(wrong[:5])


def content(made: Config) -> str:
    return body(LINKS, made).encode("utf-8", "surrogateescape").decode("latin-1")


def differences(made: Config, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    wanted = {"/".join(path): finding for path, finding in held(LINKS, made).items()}
    told = []
    for key, value in after.items():
        default = "/".join(path("default", key.rpartition("/")[2]))
        if key in wanted:
            if not satisfies(wanted[key].name, value, wanted[key].desired.want):
                told.append(f"{key} is {value}, not {wanted[key].desired.want}")
        elif value != before[key] and "forward" not in key and default not in wanted:  # nothing was copied to it
            told.append(f"{key} is written")
    return told
