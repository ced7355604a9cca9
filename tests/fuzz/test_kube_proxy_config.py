"""The configuration of kube-proxy in every form."""

from __future__ import annotations

import json
import textwrap

from hypothesis import example
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ipvsd.config.parser import parse as parse_config
from ipvsd.config.schema import Config
from ipvsd.kube_proxy import drop_in, values
from ipvsd.kube_proxy.config_check import DEFAULT_VERSION, Result, Versions, check
from ipvsd.kube_proxy.config_fields import FIELDS, OPTIONS
from ipvsd.kube_proxy.config_fix import fix
from ipvsd.kube_proxy.node_comparison import Node
from tests.fuzz.inputs import hostile, lines
from tests.fuzz.properties import fuzz
from tests.test_kube_proxy_fix import named

SLOW = 5.0  # seconds that PyYAML may use for the largest input here
NODE = Node(config=Config(), cpus=2, strict_arp_users=("MetalLB (here)",), calico="here")
HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

OTHERS = ["Mode", "ipvs-scheduler", "foo", "<<", "SupportIPVSProxyMode"]
NAMES = sorted({name for path in FIELDS for name in (path, path.rpartition(".")[2])} - {"kind", "apiVersion"})
WORDS = """
ipvs iptables nftables IPVS "ipvs" '' "" ~ null true false yes "true" 0 -1 900 1.5 1e3 0x1f 30s 0s -1s 1d 1m0s "30 s"
rr lc foo 10.0.0.0/8 10.0.0.0 ::/0 :: [::]:10256 0.0.0.0:10249 localhost:1 {} [] [a] [10.0.0.0/8] {a: true}
{KubeProxyIPVS: true} &a *a | > |- - ? %x @x ` \u201cipvs\u201d \uff49\uff50\uff56\uff53
\u2013 \u00e9 10.244.0.0/16,fd00::/48
""".split()
VALUE = st.one_of(st.sampled_from(WORDS), st.sampled_from(WORDS), st.text(max_size=5))
PAIR = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "  ", "  ", "    ", "\t", "- ", " "]),
    st.sampled_from([*NAMES, *OTHERS]),
    st.sampled_from([": ", ": ", ": ", ":", "\uff1a ", "="]),
    VALUE,
    st.sampled_from(["", "", " # why"]),
)  # fmt: skip
SECTION = st.sampled_from(
    "ipvs: iptables: conntrack: featureGates: clientConnection: --- logging: detectLocal:".split()
)
CONFIG: SearchStrategy[str] = st.builds(
    "{}{}".format, st.sampled_from([HEAD, HEAD, HEAD, ""]), lines(PAIR, SECTION, PAIR)
)


def in_block(text: str, style: str = "|") -> str:
    body = textwrap.indent(text, "    ", lambda line: line.strip() != "")
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kube-proxy\ndata:\n  config.conf: {style}\n{body}"


def in_json(text: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "data": {"config.conf": text}})


CONFIG_MAP = st.one_of(
    st.builds(in_block, CONFIG, st.sampled_from(["|", "|-", ">", "|2", '"'])), st.builds(in_json, CONFIG)
)
LISTED = CONFIG_MAP.map(lambda text: f"kind: List\nitems:\n- {textwrap.indent(text, '  ')[2:]}")
OPTION = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["--", "--", "-", "\u2013", ""]),
    st.one_of(st.sampled_from(sorted(OPTIONS)), st.sampled_from(["ipvs_scheduler", "x"])),
    st.sampled_from(["=", "=", " ", ""]),
    VALUE,
)
COMMAND = st.lists(OPTION, max_size=6).map(" ".join)
UNIT = st.one_of(
    st.builds("[Service]\nExecStart=/usr/bin/kube-proxy {} \\\n  {}\n".format, COMMAND, COMMAND),
    st.builds('KUBE_PROXY_ARGS="{}"\n'.format, COMMAND),
    st.lists(OPTION, min_size=1, max_size=5).map("\n".join),
)
K3S = st.lists(OPTION, max_size=5).map(lambda items: "kube-proxy-arg:\n" + "".join(f'- "{item}"\n' for item in items))
KUBEADM = st.builds("kind: ClusterConfiguration\nkubeProxy:\n  config:\n{}---\n{}".format,
                    CONFIG.map(lambda text: textwrap.indent(text, "    ")), CONFIG)  # fmt: skip
FILE = hostile(st.one_of(CONFIG, CONFIG, CONFIG_MAP, LISTED, UNIT, K3S, KUBEADM))
VERSIONS = st.sampled_from(
    [Versions(), Versions((1, 20)), Versions((1, 26)), Versions((1, 31)), Versions((1, 40)), Versions((1, 43))]
)

GOOD: SearchStrategy[str] = st.fixed_dictionaries(
    {"mode": st.sampled_from(["ipvs", '"ipvs"'])},
    optional={
        "bindAddress": st.sampled_from(["0.0.0.0", '"::"', '""']),
        "clusterCIDR": st.sampled_from(["10.244.0.0/16", '"10.244.0.0/16,fd00::/48"', '""']),
        "healthzBindAddress": st.sampled_from(["0.0.0.0:10256", '"[::]:10256"', "127.0.0.1", '""']),
        "nodePortAddresses": st.sampled_from(["null", "[]", "[192.0.2.0/24]", "[primary]"]),
        "featureGates": st.sampled_from(["{}", "{AllAlpha: false}", "null"]),
        "ipvs": st.sampled_from(["{}", "{syncPeriod: 30s}", "{minSyncPeriod: 0s}", "{excludeCIDRs: null}"]),
        "iptables": st.sampled_from(["{masqueradeBit: 14}", "{localhostNodePorts: null}", "{minSyncPeriod: 1s}"]),
        "conntrack": st.sampled_from(["{maxPerCore: null, min: null}", "{maxPerCore: 0}", "{min: null}"]),
        "oomScoreAdj": st.sampled_from(["null", "-999"]),
    },
).map(lambda pairs: HEAD + "".join(f"{key}: {value}\n" for key, value in pairs.items()))  # fmt: skip


@fuzz(FILE, VERSIONS, seconds=SLOW, quick=40)
def test_every_finding_has_a_place_in_the_file(data: bytes, versions: Versions) -> None:
    result = check(data, versions, NODE)
    rows = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")

    for found in result.findings:
        assert 1 <= found.line <= len(rows)
        assert 1 <= found.column <= len(rows[found.line - 1]) + 2
        assert found.problem
        assert found.consequence
        assert found.correction
        assert all(0 <= edit.start <= edit.end <= len(result.text) for edit in found.edits)


@fuzz(FILE, VERSIONS, seconds=SLOW, quick=40)
@example(b"kube-proxy" + b" --v 1" * 200, Versions())  # more words than are read, the last of which needs the next one
@example(b"kube-proxy x" + b" --v 1" * 200, Versions())
@example(b"\xef\xbb\xbf\0", Versions())
def test_a_corrected_file_stays(data: bytes, versions: Versions) -> None:
    fixed = fix(data, versions, NODE)

    if fixed.text:  # a file that is not text has no correction
        assert check(fixed.text.encode(), versions, NODE).findings == fixed.result.findings
    if not fixed.result.has_errors:
        assert fix(fixed.text.encode(), versions, NODE).text == fixed.text
    assert len(fixed.text) < 10 * len(data) + 2000


@fuzz(FILE, seconds=SLOW, quick=40)
@example(f"{HEAD}ipvs:\n  ipvs-scheduler:rr\n".encode())
@example(f"{HEAD}ipvs:\n  ipvs-scheduler=rr\n".encode())
@example(b"kube-proxy --detect-local-mode=ipvs\n")
def test_a_correction_loses_no_mode_and_no_scheduler(data: bytes) -> None:
    text = data.decode("utf-8", "replace")

    assert named(text) <= named(fix(data, Versions(), NODE).text) or not fix(data, Versions(), NODE).text


@fuzz(GOOD, quick=20)
def test_a_correct_file_has_no_findings_and_stays(text: str) -> None:
    node = Node(config=Config(), cpus=2)

    assert check(text.encode(), Versions(), node).findings == ()
    assert fix(text.encode(), Versions(), node).text == text


@fuzz(CONFIG, st.sampled_from(["|", "|2", "|-"]), seconds=SLOW, quick=30)
def test_a_config_map_moves_the_findings(text: str, style: str) -> None:
    plain = check(text.encode(), Versions(), NODE)
    if "\r" in text or "\0" in text or not text.startswith(HEAD) or "\n---" in text or not text.isascii():
        return

    moved = check(in_block(text, style.replace("2", "")).encode(), Versions(), NODE)

    assert places(moved, 0, 0) == places(plain, 6, 4)


def places(result: Result, line: int, column: int) -> set[tuple[str, int, int]]:
    """Return the places of the findings, moved. Where the parser notices an error depends on the end of the text."""
    found = (item for item in result.findings if "YAML" not in item.problem)
    return {(item.key, item.line + line, item.column + column) for item in found}


@fuzz(CONFIG, VERSIONS, seconds=SLOW, quick=20)
def test_a_drop_in_is_a_valid_configuration(text: str, versions: Versions) -> None:
    for settings in check(text.encode(), versions, Node()).settings:
        made = "\n".join(drop_in.lines(settings, versions.requested or DEFAULT_VERSION, True, 3))
        if not settings.findings:
            parse_config([("drop-in", made.encode())])


@fuzz(st.one_of(st.sampled_from(WORDS), st.text(max_size=12)))
def test_a_corrected_value_is_valid(text: str) -> None:
    for read in (values.duration, values.network, values.address):
        found = read(text)
        if isinstance(found, values.Invalid) and found.correction and read is not values.network:
            assert not isinstance(read(found.correction), values.Invalid)
