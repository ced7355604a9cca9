"""The running kube-proxy: found in /proc as a process, in a pod or inside k3s, and asked on its addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipvsd.discovery import running
from ipvsd.discovery.processes import Kind
from ipvsd.discovery.running import KubeProxy
from ipvsd.kube_proxy.answers import parse_configz, parse_version
from ipvsd.runtime import http_client
from tests.kube_proxy_server import PID, answers, put_kube_proxy, serving
from tests.trees import put, put_process

CONTAINER = "1234567890ab" * 5 + "cdef"
POD_UID = "0123abcd-0000-4000-8000-00000000beef"
POD = f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD_UID.replace('-', '_')}.slice"


def found(root: Path) -> KubeProxy:
    proxy = running.observe(str(root), None)
    assert proxy is not None
    return proxy


def test_a_node_without_kube_proxy_has_none(tmp_path: Path) -> None:
    put_process(tmp_path, 1, "systemd", ["/sbin/init"])
    put_process(tmp_path, 50, "kubelet", ["/usr/bin/kubelet", "kube-proxy"])
    put_process(tmp_path, 51, "kube-proxy", ["kube-proxy", "--cleanup"])

    assert running.observe(str(tmp_path), None) is None


def test_a_process_of_a_unit(tmp_path: Path) -> None:
    put_kube_proxy(tmp_path, config="mode: ipvs\nipvs:\n  scheduler: lc\n  strictARP: true\n")

    proxy = found(tmp_path)

    assert str(proxy.process) == f"kube-proxy[{PID}] of kube-proxy.service"
    assert proxy.process.kind is Kind.PROCESS
    assert proxy.age == 3600.0
    assert proxy.settings[:3] == ("ipvs", "lc", True)
    assert proxy.scheduler == "lc"
    assert proxy.settings.origin == "/etc/kube-proxy.yaml"


def test_a_pod_with_its_own_file_system(tmp_path: Path) -> None:
    scope = f"{POD}/cri-containerd-{CONTAINER}.scope"
    put_process(tmp_path, PID, "kube-proxy", ["kube-proxy", "--config", "/var/lib/kube-proxy/config.conf"], scope)
    # kubelet mounts a ConfigMap as links.
    put(tmp_path, f"proc/{PID}/root/var/lib/kube-proxy/..data/config.conf", 'mode: ""\n')
    (tmp_path / f"proc/{PID}/root/var/lib/kube-proxy/config.conf").symlink_to("..data/config.conf")

    proxy = found(tmp_path)

    assert (proxy.process.kind, proxy.process.pod, proxy.process.container) == (Kind.POD, POD_UID, CONTAINER)
    assert proxy.settings.mode == ""
    assert proxy.settings.requested_mode == "iptables"


def test_a_static_pod_is_identified_by_the_digest_of_its_manifest(tmp_path: Path) -> None:
    put_process(tmp_path, PID, "kube-proxy", ["kube-proxy"], f"kubepods/pod{'0a' * 16}/{CONTAINER}")

    assert found(tmp_path).process.kind is Kind.STATIC_POD


def test_flags_without_a_file(tmp_path: Path) -> None:
    words = ["kube-proxy", "--proxy-mode", "ipvs", "--ipvs-scheduler=sh", "--ipvs-strict-arp", "--v=2", "--token=x"]
    put_process(tmp_path, PID, "kube-proxy", words)

    proxy = found(tmp_path)

    assert proxy.settings[:3] == ("ipvs", "sh", True)
    assert "token" not in proxy.process.flags


def test_inside_k3s_flags_come_from_its_files_and_its_command_line(tmp_path: Path) -> None:
    put_process(tmp_path, PID, "k3s-server", ["/usr/local/bin/k3s", "server"], "system.slice/k3s.service")
    put(tmp_path, "etc/rancher/k3s/config.yaml", "kube-proxy-arg:\n- proxy-mode=ipvs\n- ipvs-scheduler=lc\n")

    proxy = found(tmp_path)

    assert str(proxy.process) == f"k3s-server[{PID}] of k3s.service"
    assert proxy.settings[:2] == ("ipvs", "lc")


@pytest.mark.parametrize(
    ("drop_in", "expected"),
    [
        ("kube-proxy-arg: [ipvs-scheduler=sh]\n", ("iptables", "sh")),
        ("kube-proxy-arg+: [ipvs-scheduler=sh]\n", ("ipvs", "sh")),
        ("token: x\n", ("ipvs", "lc")),
    ],
    ids=["replaced", "appended", "other keys"],
)
def test_k3s_replaces_its_arguments_unless_the_key_appends(
    drop_in: str, expected: tuple[str, str], tmp_path: Path
) -> None:
    put_process(tmp_path, PID, "k3s-server", ["k3s", "server"])
    text = "kube-proxy-arg: [frob=1]\nkube-proxy-arg: [proxy-mode=ipvs]\nkube-proxy-arg+: [ipvs-scheduler=lc]\n"
    put(tmp_path, "etc/rancher/k3s/config.yaml", text)
    put(tmp_path, "etc/rancher/k3s/config.yaml.d/50-a.YAML", drop_in)

    settings = found(tmp_path).settings

    assert (settings.requested_mode, settings.scheduler) == expected


@pytest.mark.parametrize(
    ("words", "config"), [(["--disable-kube-proxy"], ""), ([], "disable-kube-proxy: true\n")], ids=["flag", "file"]
)
def test_a_k3s_without_kube_proxy_is_none(words: list[str], config: str, tmp_path: Path) -> None:
    put_process(tmp_path, PID, "k3s-server", ["k3s", "server", *words])
    put(tmp_path, "etc/rancher/k3s/config.yaml", config)

    assert running.observe(str(tmp_path), None) is None


@pytest.mark.parametrize("value", ["False", "no", "0", "true\ndisable-kube-proxy: false"])
def test_a_k3s_can_enable_kube_proxy(value: str, tmp_path: Path) -> None:
    put_process(tmp_path, PID, "k3s-server", ["k3s", "server"])
    put(tmp_path, "etc/rancher/k3s/config.yaml", f"disable-kube-proxy: {value}\n")

    assert found(tmp_path).process.host_program == "k3s"


def test_in_rke2_it_is_a_static_pod(tmp_path: Path) -> None:
    put_process(tmp_path, 600, "rke2", ["/usr/bin/rke2", "agent"], "system.slice/rke2-agent.service")
    put_process(tmp_path, PID, "kube-proxy", ["kube-proxy", "--proxy-mode=ipvs"], f"{POD}/{CONTAINER}")

    assert found(tmp_path).process.host_program == "rke2"


def test_one_in_this_network_namespace_comes_first(tmp_path: Path) -> None:
    put_process(tmp_path, 1, "systemd", ["/sbin/init"], network="1")
    put_process(tmp_path, 100, "kube-proxy", ["kube-proxy"], network="2")
    put_process(tmp_path, 200, "kube-proxy", ["kube-proxy"], network="1")

    proxy = found(tmp_path)

    assert (proxy.process.pid, proxy.process.other_network, proxy.others) == (200, False, 1)


def test_its_answers_are_read(tmp_path: Path) -> None:
    with serving(answers(mode="iptables", scheduler="lc", version="v1.20.2")) as port:
        put_kube_proxy(tmp_path, port)
        proxy = running.observe(str(tmp_path), http_client.get, thorough=True)

    assert proxy is not None
    assert proxy.mode == "iptables"
    assert proxy.effective is not None
    assert proxy.settings[:3] == ("ipvs", "lc", False)
    assert (proxy.version, proxy.version_text) == ((1, 20), "v1.20.2")
    assert proxy.healthz is not None
    assert proxy.healthz.healthy
    assert proxy.problems == ()


def test_a_kube_proxy_that_does_not_answer_is_known_from_its_files(tmp_path: Path) -> None:
    with serving({}) as port:
        pass
    put_kube_proxy(tmp_path, port)

    proxy = running.observe(str(tmp_path), http_client.get, thorough=True)

    assert proxy is not None
    assert (proxy.mode, proxy.settings.mode) == (None, "ipvs")
    assert proxy.problems[0] == f"http://127.0.0.1:{port}/proxyMode: Connection refused"


@pytest.mark.parametrize("address", ["203.0.113.1:80", "example.com:80", "127.0.0.1:99999", "127.0.0.1:x", "[x]:1"])
def test_only_addresses_of_this_node_are_contacted(address: str, tmp_path: Path) -> None:
    put_process(tmp_path, PID, "kube-proxy", ["kube-proxy", f"--metrics-bind-address={address}"])

    def get(*_: object) -> http_client.Response:
        raise AssertionError

    proxy = running.observe(str(tmp_path), get)

    assert proxy is not None
    assert proxy.problems[0].startswith("cannot ask for the mode: ")


def test_without_a_port_or_with_an_unspecified_address_the_defaults_apply(tmp_path: Path) -> None:
    asked = []

    def get(address: tuple[str, int], path: str, *_: object) -> http_client.Response:
        asked.append((address, path))
        raise http_client.HttpError("refused")

    for number, address in enumerate(("0.0.0.0:1234", "127.0.0.1", "[::]:5", "")):
        put_process(tmp_path, PID + number, "kube-proxy", ["kube-proxy", f"--metrics-bind-address={address}"])
        running.observe(str(tmp_path), get)
        (tmp_path / f"proc/{PID + number}/comm").unlink()

    assert [address for address, _ in asked] == [
        ("127.0.0.1", 1234), ("127.0.0.1", 10249), ("::1", 5), ("127.0.0.1", 10249)
    ]  # fmt: skip


def test_one_in_another_network_namespace_is_not_asked(tmp_path: Path) -> None:
    put_process(tmp_path, 1, "systemd", ["/sbin/init"], network="1")
    put_process(tmp_path, PID, "kube-proxy", ["kube-proxy"], network="2")

    def get(*_: object) -> http_client.Response:
        raise AssertionError

    proxy = running.observe(str(tmp_path), get, thorough=True)
    assert proxy is not None
    assert running.metrics_address(proxy) is None


def test_configz_of_both_types_is_read() -> None:
    internal = b'{"kubeproxy.config.k8s.io":{"Mode":"ipvs","IPVS":{"Scheduler":"rr","StrictARP":true}}}'
    external = b'{"kubeproxy.config.k8s.io":{"mode":"ipvs","ipvs":{"scheduler":"rr","strictARP":true}}}'

    assert parse_configz(internal) == parse_configz(external) != None  # noqa: E711 -- both are settings
    for invalid in (b"", b"[]", b"null", b'{"kubeproxy.config.k8s.io":null}', b'{"kubeproxy.config.k8s.io":[1]}'):
        assert parse_configz(invalid) is None


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ('git_version="v1.36.2"', (1, 36)),
        ('gitVersion="v1.20.2",major="1"', (1, 20)),
        ('git_version="v1.29.3+k3s1"', (1, 29)),
        ('git_version="v0.0.0-master+$Format:%H$"', None),
        ('git_version="1.30"', None),
        ("", None),
    ],
)
def test_versions(label: str, expected: object) -> None:
    assert parse_version(f"a 1\nkubernetes_build_info{{{label}}} 1\n".encode())[1] == expected
