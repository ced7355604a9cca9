"""Findings about configurations of kube-proxy, and their corrections."""

from __future__ import annotations

import json
import textwrap
import time

import pytest

from ipvsd.config.parser import parse
from ipvsd.config.profiles import Version
from ipvsd.config.schema import Config
from ipvsd.kube_proxy import drop_in, feature_gates, values
from ipvsd.kube_proxy.config_check import Result, Versions, check
from ipvsd.kube_proxy.config_fields import FIELDS, NEWEST, OPTIONS
from ipvsd.kube_proxy.config_fix import fix
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.mode_rules import mode_of
from ipvsd.kube_proxy.node_comparison import Node

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
IPVS = f"{HEAD}mode: ipvs\n"
DEFAULTS = Node(config=Config(), cpus=2)
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-proxy}\n"


def checked(text: str, version: Version | None = None, node: Node = DEFAULTS) -> Result:
    return check(text.encode(), Versions(version), node)


def found(text: str, version: Version | None = None, node: Node = DEFAULTS) -> list[tuple[str, str]]:
    return [(item.severity.value, item.key) for item in checked(text, version, node).findings]


def fixed(text: str, version: Version | None = None, node: Node = DEFAULTS) -> str:
    done = fix(text.encode(), Versions(version), node)
    assert not done.result.has_errors
    return done.text


def in_config_map(text: str, style: str = "|") -> str:
    return f"{CONFIG_MAP}data:\n  config.conf: {style}\n{textwrap.indent(text, '    ')}"


GOOD = {
    "minimal": IPVS,
    "defaults written by kubeadm": IPVS
    + "conntrack: {maxPerCore: null, min: null, tcpEstablishedTimeout: null}\nipvs: {scheduler: '', syncPeriod: 0s, "
    "excludeCIDRs: null}\nnodePortAddresses: null\noomScoreAdj: null\nportRange: ''\nfeatureGates: null\n",
    "a kept conntrack table": IPVS + "conntrack: {maxPerCore: 0, min: 0}\n",
    "values of YAML 1.1": IPVS + "enableProfiling: no\noomScoreAdj: 0x10\n",
    "numbers to the base 60": IPVS + "hostnameOverride: 12:30:45\n",
    "both families": IPVS
    + "clusterCIDR: 10.1.0.0/16,fd00:1::/48\nbindAddress: '::'\nhealthzBindAddress: '[::]:10256'\n",
    "an address without a port": IPVS + "metricsBindAddress: 127.0.0.1\n",
    "a merged map": HEAD + "mode: ipvs\nipvs:\n  <<: {syncPeriod: 30s}\n  minSyncPeriod: 1s\n",
    "JSON with tabs": '{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1",\n\t"kind": "KubeProxyConfiguration",'
    '\n\t"mode": "ipvs"}',
    "a tab between values": f"{HEAD}mode:\tipvs\n",
    "options": "--proxy-mode=ipvs --ipvs-tcp-timeout 15m --masquerade-all=false --v=2",
    "beside a file": "KUBE_PROXY_ARGS='--config=/etc/kp.yaml --hostname-override=$(hostname) --v=2'\n",
    "a unit": "[Service]\nExecStartPre=/sbin/modprobe ip_vs\nExecStart=/usr/bin/kube-proxy \\\n  --proxy_mode=ipvs\n",
    "k3s": "kube-proxy-arg: [proxy-mode=ipvs, --ipvs-min-sync-period=5s]\n",
    "a pod": "kind: Pod\nspec:\n  containers:\n  - command: [kube-proxy, --config=/c, --hostname-override=$(NODE)]\n",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_correct_file_has_no_findings_and_stays(text: str) -> None:
    assert found(text) == []
    assert fixed(text) == text


# The file, the severity and key of its findings, and the corrected file.
CASES: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "an empty mode": (
        f"{HEAD}mode: ''\nipvs: {{strictARP: true}}\n",
        [("error", "mode")],
        f"{HEAD}mode: ipvs\nipvs: {{strictARP: true}}\n",
    ),
    "a missing mode": (
        f"{HEAD}ipvs:\n  scheduler: sh\n",
        [("error", "mode")],
        f"{HEAD}ipvs:\n  scheduler: sh\nmode: ipvs\n",
    ),
    "another spelling": (
        f"{HEAD}mode: Ipvs\nipvs: {{SyncPeriod: 30s}}\n",
        [("error", "mode"), ("error", "ipvs.SyncPeriod")],
        f"{HEAD}mode: ipvs\nipvs: {{syncPeriod: 30s}}\n",
    ),
    "a misspelt key": (
        f"{IPVS}ipvs: {{shceduler: rr}}\n",
        [("error", "ipvs.shceduler")],
        f"{IPVS}ipvs: {{scheduler: rr}}\n",
    ),
    "keys that are not indented": (
        f"{IPVS}ipvs:\nsyncPeriod: 20s # often\nminSyncPeriod: 1s\nclusterCIDR: 10.0.0.0/8\n",
        [("error", "syncPeriod, minSyncPeriod")],
        f"{IPVS}ipvs:\n  syncPeriod: 20s # often\n  minSyncPeriod: 1s\nclusterCIDR: 10.0.0.0/8\n",
    ),
    "a key that is indented too far": (
        f"{HEAD}conntrack:\n  min: 131072\n  mode: ipvs\n",
        [
            ("error", "conntrack.mode"),
        ],
        f"{HEAD}conntrack:\n  min: 131072\nmode: ipvs\n",
    ),
    "an option as a key": (
        f"{IPVS}ipvs-tcp-timeout: 5m\n",
        [("error", "ipvs-tcp-timeout")],
        f"{IPVS}ipvs:\n  tcpTimeout: 5m\n",
    ),
    "an unknown key": (f"{IPVS}frob: 1 # why\n", [("error", "frob")], f"{IPVS}# frob: 1 # why\n"),
    "removed keys": (f"{IPVS}udpIdleTimeout: 1s\n", [("warning", "udpIdleTimeout")], IPVS),
    "the removed maximum": (
        f"{IPVS}conntrack: {{max: 0, min: 131072}}\n",
        [("warning", "conntrack.max")],
        f"{IPVS}conntrack: {{min: 131072}}\n",
    ),
    "types": (
        f"{IPVS}enableProfiling: 'false'\noomScoreAdj: '-999'\nhostnameOverride: 1.5\nnodePortAddresses: 10.0.0.0/8\n"
        "conntrack: []\n",
        [
            ("error", key)
            for key in ("enableProfiling", "oomScoreAdj", "hostnameOverride", "nodePortAddresses", "conntrack")
        ],
        f'{IPVS}enableProfiling: false\noomScoreAdj: -999\nhostnameOverride: "1.5"\nnodePortAddresses: ["10.0.0.0/8"]\n'
        "conntrack: {}\n",
    ),
    "durations": (
        f"{IPVS}configSyncPeriod: 15\nipvs:\n  tcpTimeout: 1d\n  tcpFinTimeout: 2 min\n  udpTimeout:\n",
        [("error", key) for key in ("configSyncPeriod", "ipvs.tcpTimeout", "ipvs.tcpFinTimeout", "ipvs.udpTimeout")],
        f"{IPVS}configSyncPeriod: 15s\nipvs:\n  tcpTimeout: 24h\n  tcpFinTimeout: 2m\n  udpTimeout: 0s\n",
    ),
    "a negative timeout": (
        f"{IPVS}ipvs: {{tcpTimeout: -5s}}\n",
        [("error", "ipvs.tcpTimeout")],
        f"{IPVS}ipvs: {{tcpTimeout: 0s}}\n",
    ),
    "a minimum above the period": (
        f"{IPVS}ipvs: {{minSyncPeriod: 2m}}\n",
        [("error", "ipvs.minSyncPeriod")],
        f"{IPVS}ipvs: {{minSyncPeriod: 30s}}\n",
    ),
    "an unused minimum above the period": (
        f"{IPVS}iptables: {{syncPeriod: 1s, minSyncPeriod: 2s}}\n",
        [("warning", "iptables.minSyncPeriod")],
        f"{IPVS}iptables: {{syncPeriod: 1s, minSyncPeriod: 1s}}\n",
    ),
    "networks": (
        f"{IPVS}clusterCIDR: 10.244.0.0\nnodePortAddresses:\n- 192.0.2.1 # here\n- x\n",
        [("error", "clusterCIDR"), ("error", "nodePortAddresses"), ("error", "nodePortAddresses")],
        f"{IPVS}clusterCIDR: 10.244.0.0/16\nnodePortAddresses:\n- 192.0.2.1/32 # here\n# - x\n",
    ),
    "addresses": (
        f"{IPVS}bindAddress: 0.0.0.0:80\nhealthzBindAddress: localhost:10256\n",
        [("error", "bindAddress"), ("error", "healthzBindAddress")],
        f'{IPVS}bindAddress: 0.0.0.0\nhealthzBindAddress: "127.0.0.1:10256"\n',
    ),
    "feature gates": (
        f"{IPVS}featureGates: {{SupportIPVSProxyMode: true, AllAlpha: false, NFTablesProxyMode: false}}\n",
        [("error", "featureGates.SupportIPVSProxyMode"), ("error", "featureGates.NFTablesProxyMode")],
        f"{IPVS}featureGates: {{AllAlpha: false}}\n",
    ),
    "feature gates as a text": (
        f"{IPVS}featureGates: AllAlpha=false\n",
        [("error", "featureGates")],
        f"{IPVS}featureGates: {{AllAlpha: false}}\n",
    ),
    "an unknown scheduler": (
        f"{IPVS}ipvs: {{scheduler: x1}}\n",
        [("error", "ipvs.scheduler")],
        f"{IPVS}ipvs: {{scheduler: rr}}\n",
    ),
    "an old apiVersion": (
        "apiVersion: componentconfig/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n",
        [("error", "apiVersion")],
        IPVS,
    ),
    "no kind": ("mode: ipvs\n", [("error", "apiVersion"), ("error", "kind")], IPVS),
    "duplicate sections": (
        f"{IPVS}ipvs:\n  tcpTimeout: 5m\nportRange: ''\nipvs:\n  udpTimeout: 1m\n",
        [("error", "ipvs")],
        f"{IPVS}portRange: ''\nipvs:\n  udpTimeout: 1m\n  tcpTimeout: 5m\n",
    ),
    "duplicate documents": (
        f"{IPVS}---\n{HEAD}",
        [("error", "kind")],
        f"{IPVS}---\n# {HEAD[:-1].replace(chr(10), chr(10) + '# ')}\n",
    ),
    "an unquoted address": (f"{IPVS}bindAddress: ::\n", [("error", "bindAddress")], f'{IPVS}bindAddress: "::"\n'),
    "a bracket": (
        f"{IPVS}healthzBindAddress: [::]:1\n",
        [("error", "healthzBindAddress")],
        f'{IPVS}healthzBindAddress: "[::]:1"\n',
    ),
    "a tab": (f"{IPVS}ipvs:\n\tscheduler: rr\n", [("error", "line 5")], f"{IPVS}ipvs:\n  scheduler: rr\n"),
    "a wrong indentation": (
        f"{IPVS}ipvs:\n  scheduler: rr\n   udpTimeout: 1m\n",
        [("error", "udpTimeout")],
        f"{IPVS}ipvs:\n  scheduler: rr\n  udpTimeout: 1m\n",
    ),
    "no space after a colon": (f"{HEAD}mode:ipvs\nportRange: ''\n", [("error", "mode")], f"{IPVS}portRange: ''\n"),
    "no space after a colon in a section": (
        f"{IPVS}ipvs:\n  scheduler:rr\n",
        [("error", "ipvs")],
        f"{IPVS}ipvs:\n  scheduler: rr\n",
    ),
    "a Cyrillic letter": (
        f"{HEAD}m\u043ede: nftables\nipvs: {{strictARP: true}}\n",
        [("error", "m\u043ede")],
        f"{HEAD}mode: nftables\nipvs: {{strictARP: true}}\n",
    ),
    "an unclosed quote": (
        f'{HEAD}mode: "ipvs\nportRange: 1-2\n',
        [("error", "mode")],
        f'{HEAD}mode: "ipvs"\nportRange: 1-2\n',
    ),
    "full-width characters": (f"{HEAD}mode\uff1a \uff49\uff50\uff56\uff53\n", [("error", "mode")], IPVS),
    "typographic quotes": (
        f"{HEAD}mode: \u201cipvs\u201d\nipvs:\n\u00a0 scheduler: \u2018rr\u2019\n",
        [("error", "mode"), ("error", "ipvs.scheduler")],
        f"{HEAD}mode: \"ipvs\"\nipvs:\n  scheduler: 'rr'\n",
    ),
    "an anchor": (
        f"{IPVS}x: &x 30s\nipvs: {{syncPeriod: *x}}\n",
        [("warning", "x")],
        f"{IPVS}x: &x 30s\nipvs: {{syncPeriod: *x}}\n",
    ),
    "JSON": (
        json.dumps(
            {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "IPVS"}
        ),
        [("error", "mode")],
        json.dumps(
            {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "ipvs"}
        ),
    ),
    "options in a unit": (
        "[Service]\nExecStart=kube-proxy --proxy-mode=IPVS \\\n  \u2013ipvs-tcp-timeout=900 \\\n  --ipvs-sheduler=rr\n",
        [
            ("error", "proxy-mode"),
            ("error", "ipvs-tcp-timeout"),
            ("error", "ipvs-tcp-timeout"),
            ("error", "ipvs-sheduler"),
        ],
        "[Service]\nExecStart=kube-proxy --proxy-mode=ipvs \\\n  --ipvs-tcp-timeout=900s \\\n  --ipvs-scheduler=rr\n",
    ),
    "k3s without a mode": (
        "kube-proxy-arg:\n- ipvs-tcp-timeout=5m\n",
        [("error", "proxy-mode")],
        'kube-proxy-arg:\n- ipvs-tcp-timeout=5m\n- "proxy-mode=ipvs"\n',
    ),
    "k3s with a replaced list": (
        'kube-proxy-arg: [proxy-mode=ipvs]\nkube-proxy-arg+: [v=2]\n"kube-proxy-arg": [ipvs-scheduler=sh]\n',
        [("error", "kube-proxy-arg"), ("error", "kube-proxy-arg+")],
        'kube-proxy-arg: [proxy-mode=ipvs]\nkube-proxy-arg+: [v=2]\n"kube-proxy-arg+": [ipvs-scheduler=sh]\n',
    ),
    "the key of an old kubeadm": (
        "kind: ClusterConfiguration\nkubernetesVersion: v1.33.1\nkubeProxy:\n  config:\n    mode: ipvs\n",
        [("error", "kubeProxy")],
        f"kind: ClusterConfiguration\nkubernetesVersion: v1.33.1\n---\n{IPVS}",
    ),
    "the key of an old kubeadm beside a document": (
        f"kind: ClusterConfiguration\nkubeProxy:\n  config: |\n    mode: ipvs\n---\n{IPVS}",
        [("error", "kubeProxy")],
        f"kind: ClusterConfiguration\n# kubeProxy:\n#   config: |\n#     mode: ipvs\n---\n{IPVS}",
    ),
    "an empty mode and a mistake": (
        f"{HEAD}mode: ''\nipvs: {{tcpTimeout: 60}}\n",
        [("error", "mode"), ("error", "ipvs.tcpTimeout")],
        f"{HEAD}mode: ipvs\nipvs: {{tcpTimeout: 60s}}\n",
    ),
    "a key outside of the text": (
        in_config_map(HEAD) + "  mode: ipvs\n",
        [("error", "data.mode"), ("warning", "mode")],
        in_config_map(IPVS),
    ),
    "a folded text": (in_config_map(IPVS, ">"), [("error", "data.config.conf")], in_config_map(IPVS, "|")),
    "a chart": (
        "kind: HelmChartConfig\nspec:\n  valuesContent: |\n    a: b\n",
        [("warning", "spec.valuesContent")],
        "",
    ),
}


@pytest.mark.parametrize(("text", "expected", "corrected"), CASES.values(), ids=CASES)
def test_a_mistake_is_found_and_corrected(text: str, expected: list[tuple[str, str]], corrected: str) -> None:
    assert found(text) == expected
    assert fixed(text) == (corrected or text)


@pytest.mark.parametrize(("text", "expected", "corrected"), CASES.values(), ids=CASES)
def test_crlf_stays(text: str, expected: list[tuple[str, str]], corrected: str) -> None:
    assert sorted(found(text.replace("\n", "\r\n"))) == sorted(expected)
    assert fixed(text.replace("\n", "\r\n")) == (corrected or text).replace("\n", "\r\n")


def test_a_byte_order_mark_stays() -> None:
    assert fix(f"\ufeff{HEAD}mode: IPVS\n".encode(), Versions(), DEFAULTS).text == f"\ufeff{IPVS}"


UNUSABLE = {
    "nothing": (b"", 1, 1),
    "comments": (b"# mode: ipvs\n", 1, 1),
    "binary": (b"\x7fELF\0", 1, 1),
    "another encoding": (f"{HEAD}# caf\u00e9\n".encode("latin-1"), 3, 6),
    "UTF-16": ("mode: ipvs".encode("utf-16"), 1, 1),
    "an escape sequence": (b"mode: \x1b[31m", 1, 7),
    "a text": (b"hello\n", 1, 1),
    "a kubeconfig": (b"apiVersion: v1\nkind: Config\nclusters: []\n", 2, 1),
    "another object": (b"apiVersion: v1\nkind: Secret\n", 1, 1),
    "a ConfigMap without the file": (f"{CONFIG_MAP}data:\n  kubeconfig.conf: x\n".encode(), 4, 1),
    "a huge file": (b"#" * (1 << 20) + b"\n", 1, 1),
}


@pytest.mark.parametrize(("data", "line", "column"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_file_is_one_error_at_its_place(data: bytes, line: int, column: int) -> None:
    (finding,) = check(data, Versions(), DEFAULTS).findings

    assert (finding.severity, finding.effect, finding.line, finding.column) == (
        Severity.ERROR,
        Effect.EXITS,
        line,
        column,
    )
    assert fix(data, Versions(), DEFAULTS).result.has_errors


PLACES = {
    "block": (in_config_map(IPVS + "portRange: 9\n"), 9, 5),
    "stripped block": (in_config_map(IPVS + "portRange: 9", "|-"), 9, 5),
    "indented block": (
        CONFIG_MAP + "data:\n  config.conf: |2\n" + textwrap.indent(IPVS + "portRange: 9\n", "    "),
        9,
        5,
    ),
    "folded block": (in_config_map((IPVS + "portRange: 9\n").replace("\n", "\n\n"), ">"), 12, 5),
    "quotes": (f"{CONFIG_MAP}data: {{config.conf: {json.dumps(IPVS + 'portRange: 9')}}}\n", 4, 110),
    "continued quotes": (
        CONFIG_MAP + 'data:\n  config.conf: "' + IPVS.replace("\n", "\\n") + '\\\n    \\portRange: 9"\n',
        6,
        5,
    ),
    "a list": ("kind: List\nitems:\n- " + textwrap.indent(in_config_map(IPVS + "portRange: 9\n"), "  ")[2:], 11, 7),
}


@pytest.mark.parametrize(("text", "line", "column"), PLACES.values(), ids=PLACES)
def test_a_finding_in_a_config_map_has_its_place_in_the_file(text: str, line: int, column: int) -> None:
    text = text.replace("\\portRange", "portRange")

    (finding,) = checked(text).findings

    assert (finding.key, finding.line, finding.column) == ("portRange", line, column)
    assert fixed(text) == text.replace("portRange: 9", 'portRange: "9"' if '"' not in text else 'portRange: \\"9\\"')


def test_a_tab_in_a_config_map_has_its_line_in_the_file() -> None:
    (finding,) = checked(in_config_map(f"{IPVS}ipvs:\n\tscheduler: rr\n")).findings

    assert (finding.key, finding.line) == ("line 10", 10)


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        (IPVS, (1, 39), []),
        (IPVS, (1, 40), [("error", "mode, featureGates")]),
        (f"{IPVS}featureGates: {{KubeProxyIPVS: true}}\n", (1, 40), []),
        (f"{IPVS}featureGates: {{KubeProxyIPVS: true}}\n", (1, 36), [("error", "featureGates.KubeProxyIPVS")]),
        (IPVS, (1, 43), [("error", "mode")]),
        (f'# kubeProxyVersion: "1.43"\n{IPVS}', None, [("error", "mode")]),
        (f"# kubeProxyVersion: 1.43\n{IPVS}", (1, 30), []),
        (f"# kubeProxyVersion: soon\n{IPVS}", None, [("warning", "kubeProxyVersion")]),
        (f"{HEAD}mode: userspace\n", (1, 25), []),
        (f"{HEAD}mode: userspace\n", (1, 26), [("error", "mode")]),
        (f"{HEAD}mode: nftables\n", (1, 28), [("error", "mode")]),
        (f"{HEAD}mode: nftables\n", (1, 30), [("error", "mode"), ("note", "mode")]),
        (f"{IPVS}ipvs: {{scheduler: mh}}\n", (1, 26), [("error", "ipvs.scheduler")]),
        (f"{IPVS}ipvs: {{scheduler: mh}}\n", (1, 27), [("warning", "ipvs.scheduler")]),
        (f"{IPVS}featureGates: {{IPv6DualStack: true}}\n", (1, 24), []),
        (f"{IPVS}featureGates: {{IPv6DualStack: false}}\n", (1, 24), [("error", "featureGates.IPv6DualStack")]),
        (f"{IPVS}featureGates: {{IPv6DualStack: true}}\n", (1, 25), [("error", "featureGates.IPv6DualStack")]),
        (f"{IPVS}featureGates: {{SomeGate: true}}\n", (1, 36), [("error", "featureGates.SomeGate")]),
        (f"{IPVS}featureGates: {{SomeGate: true}}\n", (1, 37), [("note", "featureGates.SomeGate")]),
        (f"{IPVS}featureGates: {{kubeProxyIPVS: true}}\n", (1, 39), [("error", "featureGates.kubeProxyIPVS")]),
        ("--proxy-mode=ipvs --feature-gates=Some{Gate}=true", (1, 39), [("note", "feature-gates.Some{Gate}")]),
        (f"{IPVS}udpIdleTimeout: 250ms\n", (1, 25), []),
        (f"{IPVS}nftables: {{}}\n", (1, 28), [("error", "nftables")]),
        (f"{IPVS}iptables: {{minSyncPeriod: 1m}}\n", (1, 20), [("error", "iptables.minSyncPeriod")]),
        ("--proxy-mode=ipvs --logtostderr", (1, 25), []),
        ("--proxy-mode=ipvs --logtostderr", (1, 26), [("error", "logtostderr")]),
    ],
)
def test_the_version_decides(text: str, version: Version | None, expected: list[tuple[str, str]]) -> None:
    assert found(text, version) == expected


def configured(text: str) -> Node:
    return Node(config=parse([("ipvsd.yaml", text.encode())]), cpus=4)


@pytest.mark.parametrize(
    ("own", "theirs", "expected"),
    [
        ("scheduler: lc", "ipvs: {scheduler: lc}", []),
        ("", "ipvs: {scheduler: lc}", [("warning", "ipvs.scheduler")]),
        ("scheduler: lc", "", [("warning", "ipvs.scheduler")]),
        ("modules: {ip_vs_lc: true}", "ipvs: {scheduler: lc}", []),
        ("modules: {ip_vs_own: true}", "ipvs: {scheduler: own}", []),
        ("strictARP: true", "ipvs: {strictARP: true}", []),
        ("strictARP: true", "", [("warning", "ipvs.strictARP")]),
        ("profiles: [lvs-full]", "", [("note", "mode")]),
        ("", "conntrack: {min: 655350}", [("note", "conntrack.min")]),
        ("", "conntrack: {maxPerCore: 65536, min: 655350}", [("note", "conntrack.maxPerCore, conntrack.min")]),
        ("", "conntrack: {maxPerCore: 10, min: 10}", [("warning", "conntrack.maxPerCore, conntrack.min")]),
        ("sysctls: {net.netfilter.nf_conntrack_max: {atLeast: 655350}}", "conntrack: {min: 655350}", []),
        ("sysctls: {net.netfilter.nf_conntrack_max: false}", "conntrack: {min: 655350}", []),
        ("sysctls: {net.netfilter.nf_conntrack_max: 5}", "", [("warning", "conntrack.maxPerCore, conntrack.min")]),
        ("sysctls: {net.netfilter.nf_conntrack_max: 5}", "conntrack: {maxPerCore: 0}", []),
        (
            "sysctls: {net.netfilter.nf_conntrack_max: {atMost: 200000, atLeast: 1}}",
            "conntrack: {min: 300000}",
            [("warning", "conntrack.min")],
        ),
        (
            "sysctls: {net.netfilter.nf_conntrack_tcp_timeout_close_wait: 60}",
            "",
            [("warning", "conntrack.tcpCloseWaitTimeout")],
        ),
        (
            "sysctls: {net.netfilter.nf_conntrack_tcp_timeout_close_wait: 60}",
            "conntrack: {tcpCloseWaitTimeout: 1m}",
            [],
        ),
    ],
)
def test_disagreements_with_the_configuration_of_ipvsd(own: str, theirs: str, expected: list[tuple[str, str]]) -> None:
    assert found(f"{IPVS}{theirs}\n", node=configured(own)) == expected


def test_a_scheduler_that_the_kernel_lacks() -> None:
    node = Node(config=Config(scheduler="twos"), release="6.1", schedulers=frozenset({"rr", "lc"}))

    assert found(f"{IPVS}ipvs: {{scheduler: twos}}\n", node=node) == [("error", "ipvs.scheduler")]
    (finding,) = checked(f"{IPVS}ipvs: {{scheduler: twos}}\n", (1, 25), Node(schedulers=frozenset({"rr"}))).findings[:1]
    assert (finding.key, finding.effect) == ("ipvs.scheduler", Effect.EXITS)  # validation knows no such scheduler


@pytest.mark.parametrize("name", ["MetalLB", "kube-vip"])
def test_programs_that_require_strict_arp(name: str) -> None:
    text = f"{IPVS}ipvs:\n  scheduler: rr\n"

    assert found(text, node=Node(strict_arp_users=(name,))) == [("warning", "ipvs.strictARP")]
    assert found(f"{text}---\nkind: x\nmetadata: {{name: {name.lower()}}}\n", node=Node()) == [
        ("warning", "ipvs.strictARP")
    ]
    assert fixed(text, node=Node(strict_arp_users=(name,))) == f"{text}  strictARP: true\n"


def test_masquerade_all_with_calico() -> None:
    text = f"{IPVS}iptables: {{masqueradeAll: true}}\n"

    assert found(text) == []
    assert found(f"{text}---\nkind: x\nmetadata: {{name: calico-node}}\n") == [("warning", "iptables.masqueradeAll")]
    assert found(text, node=Node(calico="/etc/cni/net.d/10-calico.conflist")) == [("warning", "iptables.masqueradeAll")]


NO_FINDINGS = {
    "MetalLB in a comment": f"# not with MetalLB\n{IPVS}---\nkind: x # metallb\n# kube-vip\n",
    "Calico in a name": f"{IPVS}hostnameOverride: calico-1\niptables: {{masqueradeAll: true}}\n",
    "a ConfigMap without data": f"{IPVS}---\nkind: ConfigMap\nmetadata: {{name: other}}\n",
}


@pytest.mark.parametrize("text", NO_FINDINGS.values(), ids=NO_FINDINGS)
def test_only_the_documents_of_other_programs_name_them(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize("kind", ["ClusterConfiguration", "InitConfiguration"])
def test_kubeadm_creates_a_configuration_with_an_empty_mode(kind: str) -> None:
    (finding,) = checked(f"kind: {kind}\n").findings

    assert (finding.severity, finding.key, finding.effect) == (Severity.WARNING, "mode", Effect.OTHER_MODE)
    assert found(f"kind: {kind}\n---\n{IPVS}") == []


@pytest.mark.parametrize(
    "text",
    [
        f"[Service]\nExecStart={'-' * 40000}\n",
        "[Service]\n" + "ExecStart=/usr/bin/kube-proxy\n" * 4000,
        f"--proxy-mode='ipvs{' ' * 20000}1'\n",
        "kind: ClusterConfiguration\nkubeProxy: {config: {mode: ipvs}}\n---\n" * 200,
    ],
    ids=["prefixes", "many commands", "blanks", "many documents"],
)
def test_a_hostile_text_takes_linear_time(text: str) -> None:
    begun = time.process_time()
    checked(text)
    assert time.process_time() - begun < 3.0


@pytest.mark.parametrize(
    "option", ["--feature-gates=$(GATES)", "--nodeport-addresses=$A --nodeport-addresses=10.0.0.0/8"]
)
def test_a_variable_as_a_list_is_unknown(option: str) -> None:
    assert found(f"--proxy-mode=ipvs {option}\n") == []


def test_the_effects() -> None:
    effects = {
        f"{HEAD}mode: x\n": Effect.EXITS,
        f"{IPVS}ipvs: {{schedulr: lc}}\n": Effect.IGNORES,
        f"{HEAD}ipvs: {{scheduler: lc}}\n": Effect.OTHER_MODE,
    }
    assert {text: checked(text).findings[0].effect for text in effects} == effects


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1h2m3s", 3723), ("1.5s", 1.5), ("-1s", -1), ("+.5m", 30), ("1ms", 0.001), ("1us", 1e-6)],
)
def test_durations_of_go(text: str, seconds: float) -> None:
    assert values.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "1S", "1d", "1s1", ".s", "--1s", "1e3s", "9999999999999h"])
def test_invalid_durations(text: str) -> None:
    assert isinstance(values.duration(text), values.Invalid)


def test_the_data_is_consistent() -> None:
    assert all(option.path in ("", *FIELDS) for option in OPTIONS.values())
    assert all(field.since < field.before and field.since <= NEWEST for field in FIELDS.values())
    gates = feature_gates.gates()
    assert all(gate.since < gate.before for gate in gates.values())
    assert len(gates) > 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (IPVS, {}),
        (f"{IPVS}ipvs: {{scheduler: lc, strictARP: true}}\n", {"scheduler": "lc", "strict_arp": True}),
        (f"{HEAD}mode: nftables\n", {"profiles": ("kube-proxy-nftables",)}),
        (f"{HEAD}mode: iptables\n", {"profiles": ()}),
        ("kube-proxy-arg: [proxy-mode=ipvs, ipvs-scheduler=sh]\n", {"scheduler": "sh"}),
    ],
)
def test_a_drop_in_is_a_valid_configuration(text: str, expected: dict[str, object]) -> None:
    result = checked(text)

    made = "\n".join(drop_in.lines(result.settings[0], (1, 34), True, 4))

    config = parse([("drop-in", made.encode())])
    assert config.kube_proxy == (1, 34)
    assert {name: getattr(config, name) for name in expected} == expected


def test_a_drop_in_has_the_minimum_of_the_conntrack_table() -> None:
    text = f"{IPVS}conntrack: {{maxPerCore: 200000, min: 131072}}\n"

    made = "\n".join(drop_in.lines(checked(text).settings[0], (1, 34), False, 4))

    node = Node(config=parse([("drop-in", made.encode())]), cpus=4)
    assert node.config
    assert node.config.kube_proxy is None
    assert found(text, node=node) == []


@pytest.mark.parametrize(
    "text",
    [
        "[Service]\nExecStart=/usr/bin/kube-proxy --config /etc/kp.yaml\n",
        "KUBE_PROXY_ARGS='--config=/etc/kp.yaml --v=2'\n",
        "kube-proxy-arg: [config=/etc/kp.yaml]\n",
        "kind: Pod\nspec:\n  containers:\n  - command: [kube-proxy, --config=/etc/kp.yaml]\n",
    ],
)
def test_the_mode_of_a_command_line_with_a_file_is_unknown(text: str) -> None:
    settings = checked(text).deciding

    assert settings
    assert (settings.config_file, mode_of(settings)) == ("/etc/kp.yaml", "")
    beside = checked(f"{text}---\n{IPVS}").deciding if "kind" in text else None
    assert not beside or mode_of(beside) == "ipvs"


K3S_TEXTS: dict[str, tuple[str, list[tuple[str, str]], str | None]] = {
    "a unit": ("[Service]\nExecStart=/bin/k3s server --kube-proxy-arg=proxy-mode=ipvs --tls-san x\n", [], "ipvs"),
    "two words": ("[Service]\nExecStart=/bin/rke2 agent --kube-proxy-arg proxy-mode=ipvs\n", [], "ipvs"),
    "a command": ("k3s server --kube-proxy-arg=proxy-mode=ipvs\n", [], "ipvs"),
    "a unit without a mode": ("[Service]\nExecStart=/bin/k3s server --kube-proxy-arg=v=2\n", [], ""),
    "a unit without arguments": ("[Service]\nExecStart=/bin/k3s server\n", [("warning", "kube-proxy-arg")], None),
    "other keys": ("write-kubeconfig-mode: '0644'\n", [("warning", "kube-proxy-arg")], None),
    "a plural": ("kube-proxy-args: [proxy-mode=ipvs]\n", [("error", "kube-proxy-args")], None),
    "capitals": ("Kube-Proxy-Arg: proxy-mode=ipvs\n", [("error", "Kube-Proxy-Arg")], None),
    "no kube-proxy": ("token: x\ndisable-kube-proxy: yes\n", [("warning", "disable-kube-proxy")], None),
}


@pytest.mark.parametrize(("text", "expected", "mode"), K3S_TEXTS.values(), ids=K3S_TEXTS)
def test_k3s(text: str, expected: list[tuple[str, str]], mode: str | None) -> None:
    settings = checked(text).deciding

    assert found(text) == expected
    assert (mode_of(settings) if settings else None) == mode
    assert all(finding.effect is not Effect.EXITS for finding in checked(text).findings)
