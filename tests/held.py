"""A node of which only the reflex is there."""

from __future__ import annotations

from collections.abc import Collection

from ipvsd.config.parser import parse
from ipvsd.decide.contention import Fights, Limit
from ipvsd.reconcile.fast_path import Reflex
from ipvsd.reconcile.reconciler import reconcile
from tests.fake_kernel import FORWARD, FakeKernel
from tests.timers import Timers

TEXT = "sysctls: {net.ipv4.ip_forward: 1}"


class Node:
    """A daemon after its first look, of which only the reflex is there."""

    def __init__(self, text: str = TEXT) -> None:
        self.kernel, self.mailbox = FakeKernel(), Timers()
        self.reflex = Reflex(self.kernel, self.mailbox, lambda: self.mailbox.now)
        self.reflex.fights = Fights(Limit(1_000_000, 60.0, 300.0))
        self.arm(text)

    def arm(self, text: str = TEXT, left_alone: Collection[str] = ()) -> None:
        config = parse([("f", text.encode())])
        self.reflex.arm(reconcile(self.kernel, config, {}, lambda: self.mailbox.now), left_alone)

    def drift(self, value: str = "0") -> bool:
        self.kernel.values[FORWARD] = value
        return self.reflex.told(FORWARD)
