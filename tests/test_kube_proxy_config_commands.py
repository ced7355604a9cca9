"""ipvsd doctor kube-proxy-config and ipvsd config from-kube-proxy, on a tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipvsd.cli import main
from tests.fake_kernel import DEPENDS, RELEASE
from tests.trees import make_modules, make_tree, put

pytestmark = pytest.mark.system

Output = pytest.CaptureFixture[str]
CONFIG = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "root")


def lint(tree: Path, text: str | bytes, *options: str) -> int:
    file = tree.parent / "kube-proxy.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return main(["doctor", "kube-proxy-config", str(file), "--root", str(tree), *options])


def keys(capsys: Output) -> list[tuple[str, str]]:
    return [(found["severity"], found["key"]) for found in json.loads(capsys.readouterr().out)["findings"]]


def test_a_correct_file_is_one_line(tree: Path, capsys: Output) -> None:
    assert lint(tree, CONFIG) == 0

    assert capsys.readouterr() == (
        f"{tree.parent}/kube-proxy.yaml: no findings: kube-proxy 1.39 (assumed) starts in ipvs mode\n", ""
    )  # fmt: skip


def test_a_finding_has_its_place_effect_and_correction(
    tree: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree.parent)
    Path("kp.yaml").write_text(f"{CONFIG}ipvs: {{tcpTimeout: 900}}\n")

    assert main(["doctor", "kube-proxy-config", "kp.yaml", "--root", str(tree)]) == 1

    assert capsys.readouterr().out == (
        "kp.yaml:4:8: error: ipvs.tcpTimeout: invalid duration 900: add a unit, for\n  example 15m\n"
        "  kube-proxy exits with a decoding error\n  -> tcpTimeout: 900s\n1 error (kube-proxy 1.39, assumed)\n"
    )


def test_lines_fit_in_80_columns_and_contain_no_control_characters(tree: Path, capsys: Output) -> None:
    lint(tree, f"{CONFIG}x\\u009b: 1\nconntrack: {{min: 1}}\n'a\u202eb': 2\n")

    out = capsys.readouterr().out
    assert max(map(len, out.replace(str(tree.parent), "").splitlines())) <= 80
    assert all(line.isprintable() for line in out.splitlines())


def test_the_correction_is_the_whole_file(tree: Path, capsys: Output) -> None:
    text = f"# first\n{CONFIG}ipvs:\n  tcpTimeout: 900 # seconds\n"

    assert lint(tree, text, "--fix") == 0

    assert capsys.readouterr() == (text.replace("900", "900s"), "")


def test_an_error_without_a_correction(tree: Path, capsys: Output) -> None:
    assert lint(tree, b"\x7fELF\0", "--fix") == 1

    assert capsys.readouterr() == ("", f"ipvsd: cannot correct {tree.parent}/kube-proxy.yaml:1: the file is binary\n")


def test_the_version_of_the_configuration_applies(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", 'kubeProxyVersion: "1.43"\n')

    assert lint(tree, CONFIG, "--output", "json") == 1
    assert keys(capsys) == [("error", "mode")]
    assert lint(tree, CONFIG, "--output", "json", "--kube-proxy-version", "v1.34.2") == 0
    assert keys(capsys) == []


def test_an_invalid_configuration_of_ipvsd_only_prevents_the_comparison(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "scheduler: x y\n")

    assert lint(tree, f"{CONFIG}ipvs: {{scheduler: lc}}\n") == 0

    out, err = capsys.readouterr()
    assert "no findings" in out
    assert err.startswith("ipvsd: cannot compare with ipvsd's configuration: ")


def test_the_kernel_and_the_programs_of_the_node(tree: Path, capsys: Output) -> None:
    shutil.rmtree(tree / "lib/modules")
    make_modules(tree, RELEASE, [name for name in DEPENDS if name != "ip_vs_twos"])
    put(tree, "etc/kubernetes/manifests/kube-vip.yaml", "")
    put(tree, "etc/cni/net.d/10-calico.conflist", "{}")

    text = f"{CONFIG}ipvs: {{scheduler: twos}}\niptables: {{masqueradeAll: true}}\n"
    assert lint(tree, text, "--output", "json") == 1

    assert keys(capsys) == [
        ("error", "ipvs.scheduler"),
        ("warning", "ipvs.strictARP"),
        ("warning", "iptables.masqueradeAll"),
    ]


@pytest.mark.parametrize("name", ["/nowhere", "/dev/null", "/"])
@pytest.mark.parametrize("command", [["doctor", "kube-proxy-config"], ["config", "from-kube-proxy"]], ids=" ".join)
def test_a_file_that_cannot_be_read(tree: Path, capsys: Output, command: list[str], name: str) -> None:
    assert main([*command, name, "--root", str(tree)]) == 2

    assert capsys.readouterr().err.startswith(f"ipvsd: cannot read {name}: ")


def test_an_invalid_version(tree: Path, capsys: Output) -> None:
    assert lint(tree, CONFIG, "--kube-proxy-version", "1.5") == 64

    assert "argument --kube-proxy-version: invalid version '1.5' (" in capsys.readouterr().err


def test_standard_input(tree: Path) -> None:
    command = [sys.executable, "-m", "ipvsd", "doctor", "kube-proxy-config", "-", "--root", str(tree)]

    done = subprocess.run(command, input=CONFIG, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<standard input>: no findings: ")


def test_a_drop_in_ends_the_differences(tree: Path, capsys: Output) -> None:
    text = f"{CONFIG}ipvs: {{scheduler: lc, strictARP: true}}\nconntrack: {{min: 655350}}\n"
    assert lint(tree, text, "--output", "json") == 0
    assert len(keys(capsys)) == 3

    file = str(tree.parent / "kube-proxy.yaml")
    assert main(["config", "from-kube-proxy", file, "--root", str(tree), "--kube-proxy-version", "1.36"]) == 0
    put(tree, "etc/ipvsd/conf.d/50-kube-proxy.yaml", capsys.readouterr().out)

    assert main(["config", "validate", "--root", str(tree)]) == 0
    capsys.readouterr()
    assert lint(tree, text, "--output", "json") == 0
    assert keys(capsys) == []


def test_no_drop_in_for_an_invalid_file(tree: Path, capsys: Output) -> None:
    (tree / "x").write_text("mode: 5\n")

    assert main(["config", "from-kube-proxy", str(tree / "x"), "--root", str(tree)]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert f"run 'ipvsd doctor kube-proxy-config {tree / 'x'}'" in err


def test_no_drop_in_for_a_command_line_that_names_another_file(tree: Path, capsys: Output) -> None:
    text = "[Service]\nExecStart=/usr/bin/kube-proxy --config /etc/kp.yaml\n"

    assert lint(tree, text, "--output", "json") == 0
    assert json.loads(capsys.readouterr().out)["mode"] is None
    assert lint(tree, text) == 0
    assert "kube-proxy 1.39 (assumed) starts, and reads its mode from /etc/kp.yaml" in capsys.readouterr().out
    assert main(["config", "from-kube-proxy", str(tree.parent / "kube-proxy.yaml"), "--root", str(tree)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "the mode is in /etc/kp.yaml; give that file instead" in err


def test_the_options_of_doctor_can_precede_the_action(tree: Path, capsys: Output) -> None:
    file = tree / "x"
    file.write_text(CONFIG)

    assert main(["doctor", "--output", "json", "--root", str(tree), "kube-proxy-config", os.fspath(file)]) == 0
    assert keys(capsys) == []
