"""Images without a running kernel: the state after the first boot."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ipvsd.boot import drop_in_files
from tests.boots import Output, make_image, run, sysctl_conf, values
from tests.fake_kernel import DEPENDS, RELEASE
from tests.trees import READY_LINE, WANTS, enable, make_modules, make_tree, put

pytestmark = pytest.mark.system


def put_all(image: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        put(image, path, text)


HEAD = f"after the first boot of kernel {RELEASE}:"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "image")


@pytest.mark.parametrize("directories", [(), ("proc", "sys", "dev")], ids=["none", "empty ones"])
def test_an_image_with_ipvsd_is_compliant_after_its_first_boot(
    image: Path, capsys: Output, directories: Sequence[str]
) -> None:
    enable(image)
    for directory in directories:
        (image / directory).mkdir()
    code, out, _ = run(capsys, image, "check")
    assert (code, out.startswith(f"{HEAD} {READY_LINE.partition(',')[0]}")) == (0, True)
    assert run(capsys, image, "plan", "--exit-code") == (0, f"{HEAD} nothing to do", "")
    code, out, _ = run(capsys, image, "explain", "ip_vs")
    assert (code, out.startswith(f"{HEAD} module ip_vs: live")) == (0, True)


def test_an_image_without_ipvsd_is_not_compliant_until_it_is_persisted(image: Path, capsys: Output) -> None:
    code, out, _ = run(capsys, image, "check")
    assert (code, "or enable ipvsd.service" in out) == (1, True)
    assert run(capsys, image, "plan", "--exit-code")[0] == 1
    assert run(capsys, image, "explain", "ip_vs")[0] == 1
    assert run(capsys, image, "apply", "--persist")[0] == 0
    for command in (["check"], ["plan", "--exit-code"], ["explain", "ip_vs"], ["explain", "net.ipv4.ip_forward"]):
        assert run(capsys, image, *command)[0] == 0


def test_persisted_values_of_an_image_suffice_for_any_number_of_cpus(image: Path, capsys: Output) -> None:
    run(capsys, image, "apply", "--persist")
    assert "net.netfilter.nf_conntrack_max = 1048576\n" in (image / drop_in_files.SYSCTL).read_text()
    _, document = values(capsys, image, "check")
    assert [item["desired"] for item in document["sysctls"] if "nf_conntrack_max" in item["name"]] == [">= 131072"]


def test_a_file_that_makes_an_image_non_compliant_is_named(image: Path, capsys: Output) -> None:
    sysctl_conf(image, "net.ipv4.ip_forward = 0\n")
    assert run(capsys, image, "apply", "--persist")[0] == 1
    code, out, _ = run(capsys, image, "check")
    assert (code, "/etc/sysctl.d/99-sysctl.conf:1: net.ipv4.ip_forward = 0" in out) == (1, True)
    enable(image)  # makes it compliant
    assert run(capsys, image, "check")[0] == 0


def test_ipvsd_cannot_repair_an_image_with_disabled_module_loading(image: Path, capsys: Output) -> None:
    enable(image)
    put(image, "etc/sysctl.d/99-h.conf", "kernel.modules_disabled=1\n")
    code, out, _ = run(capsys, image, "check")
    assert (code, "/etc/sysctl.d/99-h.conf:1: kernel.modules_disabled=1" in out) == (1, True)
    assert run(capsys, image, "apply", "--persist")[0] == 0
    assert run(capsys, image, "check")[0] == 0


SEALED = "sysctl.kernel.modules_disabled=1"
GRUB = f"GRUB_CMDLINE_LINUX={SEALED}\n"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"etc/default/grub": f'GRUB_CMDLINE_LINUX_DEFAULT="quiet {SEALED}"\n'}, 1),
        ({"etc/default/grub": f"#GRUB_CMDLINE_LINUX={SEALED}\n"}, 0),
        ({"etc/default/grub": GRUB, "etc/default/grub.d/x.cfg": "GRUB_CMDLINE_LINUX=\n"}, 0),
        ({"etc/default/grub": GRUB, "etc/default/grub.d/x.cfg": 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX quiet"\n'}, 1),
        ({"etc/kernel/cmdline": f"root=/dev/vda {SEALED}\n"}, 1),
        ({"boot/loader/entries/a.conf": f"title x\nversion {RELEASE}\noptions quiet {SEALED}\n"}, 1),
        ({"boot/loader/entries/a.conf": f"title x\nversion 5.0\noptions quiet {SEALED}\n"}, 0),
        ({"etc/kernel/cmdline": f"root=/dev/vda -- {SEALED}\n"}, 0),
        ({"etc/kernel/cmdline": "root=/dev/vda -- module_blacklist=ip_vs\n"}, 0),
        ({"etc/kernel/cmdline": "root=/dev/vda module_blacklist=ip_vs --\n"}, 1),
    ],
)
def test_the_boot_loader_of_an_image_counts(image: Path, capsys: Output, files: Mapping[str, str], code: int) -> None:
    enable(image)
    put_all(image, files)
    assert run(capsys, image, "check")[0] == code


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, 0),
        ({"etc/systemd/system-preset/50-x.preset": "disable ipvsd*\n"}, 1),
        ({"etc/systemd/system-preset/90-x.preset": "disable *\n"}, 0),
        ({"etc/machine-id": "uninitialized\n"}, 0),
        ({"etc/machine-id": "0123456789abcdef0123456789abcdef\n"}, 1),
        ({"etc/machine-id": ""}, 1),
    ],
)
def test_a_first_boot_applies_the_presets(image: Path, capsys: Output, files: Mapping[str, str], code: int) -> None:
    put(image, "usr/lib/systemd/system/ipvsd.service", "[Unit]\n")
    put(image, "usr/lib/systemd/system-preset/80-ipvsd.preset", "enable ipvsd.service\ndisable ipvsd-apply.service\n")
    put_all(image, files)
    assert run(capsys, image, "check")[0] == code


def test_a_file_of_an_image_that_disables_forwarding_on_an_interface_is_reported(image: Path, capsys: Output) -> None:
    run(capsys, image, "apply", "--persist")
    put(image, "etc/sysctl.d/99-x.conf", "net.ipv4.conf.eth7.forwarding = 0\n")
    code, out, _ = run(capsys, image, "check")
    assert (code, "/etc/sysctl.d/99-x.conf:1: net.ipv4.conf.eth7.forwarding = 0" in out) == (1, True)


def test_a_kernel_without_a_module_is_reported_in_an_image(image: Path, capsys: Output) -> None:
    enable(image)
    shutil.rmtree(image / "lib/modules")
    make_modules(image, RELEASE, [name for name in DEPENDS if name != "ip_vs_sh"])
    code, out, _ = run(capsys, image, "check")
    assert (code, f"! ip_vs_sh absent /lib/modules/{RELEASE}/modules.dep does not list the module" in out) == (1, True)


@pytest.mark.parametrize("command", [["check"], ["plan"], ["explain", "ip_vs"], ["apply", "--persist"]], ids=" ".join)
def test_an_image_without_a_kernel_cannot_be_judged(image: Path, capsys: Output, command: list[str]) -> None:
    shutil.rmtree(image / "lib/modules")
    told = "ipvsd: cannot check : missing kernel in /lib/modules"
    if command[0] == "apply":
        told = "ipvsd: cannot write the boot configuration under : missing kernel in /lib/modules"
    assert run(capsys, image, *command) == (2, "", f"{told} (install a kernel in the image)")


def test_the_document_names_the_kind_of_kernel(tmp_path: Path, image: Path, capsys: Output) -> None:
    tree = make_tree(tmp_path / "root")
    for root, judged in ((tree, "other_tree"), (image, "first_boot")):
        assert values(capsys, root, "check")[1]["root_kind"] == judged
        assert values(capsys, root, "explain", "ip_vs")[1]["root_kind"] == judged


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"etc/modprobe.d/x.conf": "install ip_vs /bin/true\n"}, "! /etc/modprobe.d/x.conf:1 install ip_vs /bin/true"),
        ({"etc/kernel/cmdline": "quiet module_blacklist=ip_vs\n"}, "! /proc/cmdline module_blacklist=ip_vs"),
    ],
)
def test_a_line_that_blocks_a_module_in_an_image_is_explained(
    image: Path, capsys: Output, files: Mapping[str, str], told: str
) -> None:
    enable(image)
    put_all(image, files)
    code, out, _ = run(capsys, image, "explain", "ip_vs")
    assert (code, told in out) == (1, True)
    assert run(capsys, image, "check")[0] == 1


def test_the_loaded_alternative_counts(image: Path, capsys: Output) -> None:
    put(image, "etc/ipvsd/ipvsd.yaml", "profiles: []\nmodules: {lb: {anyOf: [ip_vs_lc, ip_vs_wlc]}}\n")
    assert run(capsys, image, "check")[0] == 1
    put(image, "etc/modules-load.d/lb.conf", "ip_vs_wlc\n")
    code, document = values(capsys, image, "check")
    assert (code, document["modules"][0]["module"]) == (0, "ip_vs_wlc")


NETWORKD = "etc/systemd/network/10-eth.network"
CLOSED = "[Match]\nName=eth0\n\n[Network]\nIPv4Forwarding=no\n"
UNIT = "usr/lib/systemd/system/systemd-networkd.service"
PRESET = "usr/lib/systemd/system-preset/90-systemd.preset"
EFFECTIVE = "IPv4Forwarding=no (takes effect; not compliant)"
FORWARDING = "net.ipv4.conf.eth0.forwarding"


@pytest.mark.parametrize(
    ("files", "code", "told"),
    [
        ({}, 0, ""),
        ({"etc/sysctl.d/99-x.conf": f"{FORWARDING} = 0\n"}, 1, f"{FORWARDING} = 0 (takes effect; not compliant)"),
        ({NETWORKD: CLOSED}, 0, f"/{NETWORKD}:5 IPv4Forwarding=no (no effect: systemd does not start"),
        ({NETWORKD: CLOSED, f"{WANTS}/systemd-networkd.service": ""}, 1, EFFECTIVE),
        ({NETWORKD: CLOSED, UNIT: "[Unit]\n", PRESET: "enable systemd-networkd.service\n"}, 1, EFFECTIVE),
        ({NETWORKD: CLOSED, UNIT: "[Install]\nWantedBy=multi-user.target\n"}, 1, EFFECTIVE),
    ],
)
@pytest.mark.parametrize("name", [FORWARDING, "eth0"])
def test_an_interface_that_an_image_does_not_have_yet_is_explained(
    image: Path, capsys: Output, files: Mapping[str, str], code: int, told: str, name: str
) -> None:
    enable(image)
    put_all(image, files)
    found, out, _ = run(capsys, image, "explain", name)
    assert (found, "does not have this" in out, "not held" in out) == (code, False, False)
    assert told in out.replace(f"of {FORWARDING}: ", "")
    if name == "eth0":
        assert out.startswith(f"{HEAD} interface eth0: unknown before the first boot")


@pytest.mark.parametrize(
    ("files", "name", "told"),
    [
        ({}, "kernel.modules_disabled",
         "kernel.modules_disabled = -: not managed by ipvsd no line sets the value; the k"),
        ({"etc/sysctl.d/h.conf": "kernel.modules_disabled=1\n"}, "modules_disabled",
         "kernel.modules_disabled = 1: not"),
        ({"etc/kernel/cmdline": "sysctl.vm.swappiness=7\n"}, "vm.swappiness", "vm.swappiness = 7: not managed"),
        ({}, "hashsize",
         "nf_conntrack.hashsize = -: not managed by ipvsd no line sets the value; the kernel's default is"),
        ({"etc/modprobe.d/x.conf": "options nf_conntrack hashsize=9\n"}, "hashsize", "nf_conntrack.hashsize = 9: not"),
        ({}, "net.vendor.knob", "net.vendor.knob = -: not managed by ipvsd"),
        ({}, "ip_vs_ftp", "module ip_vs_ftp: loadable, not managed by ipvsd nothing loads the module at boot"),
        ({"etc/modules-load.d/x.conf": "ip_vs_ftp\n"}, "ip_vs_ftp", "ip_vs_ftp: live, not managed by ipvsd /etc/mod"),
        ({}, "kube-ipvs0", "interface kube-ipvs0: unknown before the first boot"),
    ],
)  # fmt: skip
def test_explain_describes_an_image_after_its_first_boot(
    image: Path, capsys: Output, files: Mapping[str, str], name: str, told: str
) -> None:
    enable(image)
    put_all(image, files)
    code, out, _ = run(capsys, image, "explain", name)
    assert (code, "does not have this" in out, told in out) == (0, False, True)
