"""Corrections never lose a mode or a scheduler, and a guess never removes an option."""

from __future__ import annotations

import re

import pytest

from ipvsd.config.profiles import SCHEDULERS
from ipvsd.kube_proxy.config_check import Versions, check
from ipvsd.kube_proxy.config_fix import fix
from ipvsd.kube_proxy.node_comparison import Node
from tests.test_kube_proxy_config import CASES, GOOD, HEAD, IPVS, in_config_map

_VALUES = {"mode": ("ipvs", "iptables", "nftables"), "scheduler": SCHEDULERS}
# Not detectLocalMode.
_NAMED = re.compile(r"(?i)(?<!local)(?<!local-)(mode|scheduler)[\"']?[ \t]*[:= \t][ \t]*[\"']?([a-z]+)(?![\w-])")


def named(text: str) -> set[tuple[str, str]]:
    """Return the valid modes and schedulers that a file names, also in a comment."""
    found = {(key.lower(), value.lower()) for key, value in _NAMED.findall(text)}
    return {(key, value) for key, value in found if value in _VALUES[key]}


# The file, and the corrected file or None if ipvsd must not change it.
CORRECTED: dict[str, tuple[str, str | None]] = {
    "a blank instead of the sign": ("kube-proxy-arg:\n  - proxy-mode ipvs\n", "kube-proxy-arg:\n  - proxy-mode=ipvs\n"),
    "a colon in a string": ('kube-proxy-arg: ["proxy-mode: ipvs"]\n', 'kube-proxy-arg: ["proxy-mode=ipvs"]\n'),
    "blanks around the sign": ("kube-proxy-arg: proxy-mode = ipvs\n", "kube-proxy-arg: proxy-mode=ipvs\n"),
    "two options in an item": (
        "kube-proxy-arg:\n- proxy-mode=ipvs ipvs-scheduler=lc\n",
        "kube-proxy-arg:\n- proxy-mode=ipvs\n- ipvs-scheduler=lc\n",
    ),
    "two options in quotes": (
        "kube-proxy-arg: ['proxy-mode=ipvs --ipvs-scheduler=lc']\n",
        "kube-proxy-arg: ['proxy-mode=ipvs', '--ipvs-scheduler=lc']\n",
    ),
    "two options after a comma": (
        "kube-proxy-arg:\n- proxy-mode=ipvs,ipvs-scheduler=lc\n",
        "kube-proxy-arg:\n- proxy-mode=ipvs\n- ipvs-scheduler=lc\n",
    ),
    "two options after a comma without a list": ("kube-proxy-arg: proxy-mode=ipvs,ipvs-scheduler=lc\n", None),
    "two options without a list": ("kube-proxy-arg: proxy-mode=ipvs ipvs-scheduler=lc\n", None),
    "an item that is indented too far": (
        "kube-proxy-arg:\n- proxy-mode=ipvs\n - ipvs-scheduler=lc\n  - v=2\n",
        "kube-proxy-arg:\n- proxy-mode=ipvs\n- ipvs-scheduler=lc\n- v=2\n",
    ),
    "a gate of a newer version": (f"{IPVS}featureGates: {{Some: true}}\n", f"{IPVS}featureGates: {{Some: true}}\n"),
    "a misspelt key of k3s": ("kube_proxy_arg: [proxy-mode=ipvs]\n", "kube-proxy-arg: [proxy-mode=ipvs]\n"),
    "a misspelt key beside the right one": (
        "kube-proxy-arg: [ipvs-scheduler=sh]\nkube-proxy-args: [proxy-mode=ipvs]\n",
        "kube-proxy-arg: [ipvs-scheduler=sh]\nkube-proxy-arg+: [proxy-mode=ipvs]\n",
    ),
    "options of k3s in a variable": (
        "K3S_ARGS=--kube-proxy-arg=proxy-mode=IPVS\n",
        "K3S_ARGS=--kube-proxy-arg=proxy-mode=ipvs\n",
    ),
    "options of k3s in a unit": (
        "[Service]\nEnvironment=A=b\nExecStart=k3s \\\n server \\\n '--kube-proxy-arg' 'ipvs-scheduler=sh' \\\n",
        "[Service]\nEnvironment=A=b\nExecStart=k3s \\\n server \\\n '--kube-proxy-arg' 'ipvs-scheduler=sh' "
        "--kube-proxy-arg=proxy-mode=ipvs \\\n",
    ),
    "an unknown option": ("kube-proxy-arg:\n- proxy-mode=ipvs\n- frob=1\n", None),
    "an option without dashes": (
        "[Service]\nExecStart=/kube-proxy proxy-mode=ipvs\n",
        "[Service]\nExecStart=/kube-proxy --proxy-mode=ipvs\n",
    ),
    "a blank after the sign": ("--proxy-mode= ipvs --v=2\n", "--proxy-mode=ipvs --v=2\n"),
    "another word": ("--proxy-mode=ipvs --v=2 x\n", None),
    "a missing value": ("--proxy-mode=ipvs --ipvs-scheduler\n", None),
    "options beside a file": ("ARGS='--config=/c --proxy-mode=ipvs'\n", None),
    "several values": ("--proxy-mode=iptables\n--proxy-mode=ipvs\n", "--proxy-mode=iptables\n--proxy-mode=ipvs\n"),
    "a repeated value": ("--v=2\n--proxy-mode=ipvs\n--proxy-mode=ipvs\n", "--v=2\n--proxy-mode=ipvs\n"),
    "several modes": (f"{HEAD}mode: ipvs\nmode: iptables\n", f"{HEAD}# mode: ipvs\nmode: iptables\n"),
    "several schedulers": (
        f"{IPVS}ipvs:\n  scheduler: lc\nipvs:\n  scheduler: sh\n",
        f"{IPVS}# ipvs:\n#   scheduler: lc\nipvs:\n  scheduler: sh\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "corrected"), CORRECTED.values(), ids=CORRECTED)
def test_a_correction_keeps_the_settings(text: str, corrected: str | None) -> None:
    fixed = fix(text.encode(), Versions(), Node())

    assert fixed.text == (corrected or text)
    assert fixed.result.has_errors is (corrected is None)


@pytest.mark.parametrize("name", [*CORRECTED, *CASES, *GOOD])
def test_a_correction_loses_no_mode_and_no_scheduler(name: str) -> None:
    text = CASES[name][0] if name in CASES else CORRECTED[name][0] if name in CORRECTED else GOOD[name]

    for given in (text, in_config_map(text)):
        assert named(given) <= named(fix(given.encode(), Versions(), Node()).text)


def test_a_wrong_indentation_of_an_item_has_its_place() -> None:
    (finding,) = check(b"kube-proxy-arg:\n- proxy-mode=ipvs\n - ipvs-scheduler=lc\n", Versions(), Node()).findings

    assert (finding.key, finding.line, finding.column) == ("ipvs-scheduler", 3, 4)
    assert finding.problem.startswith("invalid YAML: wrong indentation")
