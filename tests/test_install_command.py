"""The effect of an `install` line of modprobe.d(5), judged by its words."""

from __future__ import annotations

import pytest

from ipvsd.modprobe.modprobe_d import InstallEffect, install_effect


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/bin/true", InstallEffect.NOTHING),
        ("/bin/false", InstallEffect.NOTHING),
        ("true # not on this node", InstallEffect.NOTHING),
        (":", InstallEffect.NOTHING),
        ("/usr/bin/echo no ip_vs here", InstallEffect.NOTHING),
        ("logger 'ip_vs was asked for'; exit 1", InstallEffect.NOTHING),
        ("true && { echo x; }", InstallEffect.NOTHING),
        ("/sbin/modprobe other", InstallEffect.NOTHING),
        ("modprobe --ignore-install ip-vs", InstallEffect.LOADS),
        ("/sbin/modprobe -i ip_vs $CMDLINE_OPTS && logger loaded", InstallEffect.LOADS),
        ("logger x; exec modprobe -i $MODPROBE_MODULE", InstallEffect.LOADS),
        ("insmod /lib/modules/x/kernel/ip_vs.ko.xz", InstallEffect.LOADS),
        ("echo `modprobe -i ip_vs`", InstallEffect.LOADS),
        ("A=1 /usr/local/sbin/load-ipvs", InstallEffect.UNKNOWN),
        ("sh -c 'modprobe -i ip_vs'", InstallEffect.UNKNOWN),
    ],
)
def test_a_command_loads_the_module_or_it_does_not(command: str, expected: InstallEffect) -> None:
    assert install_effect(command, "ip_vs") is expected
