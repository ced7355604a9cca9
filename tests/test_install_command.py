"""What an `install` line of modprobe.d(5) comes to, by its words."""

from __future__ import annotations

import pytest

from ipvsd.install_command import Effect, effect


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/bin/true", Effect.NOTHING),
        ("/bin/false", Effect.NOTHING),
        ("true # not on this node", Effect.NOTHING),
        (":", Effect.NOTHING),
        ("/usr/bin/echo no ip_vs here", Effect.NOTHING),
        ("logger 'ip_vs was asked for'; exit 1", Effect.NOTHING),
        ("true && { echo x; }", Effect.NOTHING),
        ("/sbin/modprobe other", Effect.NOTHING),
        ("modprobe --ignore-install ip-vs", Effect.LOADS),
        ("/sbin/modprobe -i ip_vs $CMDLINE_OPTS && logger loaded", Effect.LOADS),
        ("logger x; exec modprobe -i $MODPROBE_MODULE", Effect.LOADS),
        ("insmod /lib/modules/x/kernel/ip_vs.ko.xz", Effect.LOADS),
        ("echo `modprobe -i ip_vs`", Effect.LOADS),
        ("A=1 /usr/local/sbin/load-ipvs", Effect.UNKNOWN),
        ("sh -c 'modprobe -i ip_vs'", Effect.UNKNOWN),
    ],
)
def test_a_command_loads_the_module_or_it_does_not(command: str, expected: Effect) -> None:
    assert effect(command, "ip_vs") is expected
