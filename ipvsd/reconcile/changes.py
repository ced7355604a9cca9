"""The changes that the reconciler reports, as a closed set. Counters, messages and history derive from them."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

from typing import NamedTuple, Union

from ipvsd.decide.contention import Contention, Limit
from ipvsd.model.report import Repair, Writer
from ipvsd.model.types import Action, DesiredModule, DesiredSysctl, Finding, Outcome

DesiredItem = Union[DesiredModule, DesiredSysctl]


class Drifted(NamedTuple):
    """An item that was compliant is not any more, and its desired state is unchanged."""

    item: DesiredItem


class Repaired(NamedTuple):
    """ipvsd acted on a drifted item, and a fresh read proved it compliant. An event caused it if `at_once`."""

    item: DesiredItem
    action: Action
    repair: Repair
    at_once: bool = False


class Applied(NamedTuple):
    """ipvsd acted on an item that had not drifted, or was `reconfigured`, and a fresh read proved it compliant."""

    item: DesiredItem
    action: Action
    reconfigured: bool = False


class RepairFailed(NamedTuple):
    """ipvsd acted on an item, but it is not compliant. The next attempt backs off."""

    item: DesiredItem
    outcome: Outcome


class Overwritten(NamedTuple):
    """ipvsd wrote a value `times` times and read it back each time, and another program overwrote it each time."""

    item: DesiredItem
    times: int


class ProblemAppeared(NamedTuple):
    """A finding that is not compliant is new, or differs from the one before. A pattern has one finding."""

    finding: Finding


class ProblemCleared(NamedTuple):
    """A finding that was not compliant is compliant, without an action of ipvsd."""

    finding: Finding


class ContentionStarted(NamedTuple):
    """Another program changes a sysctl more often than the limit permits."""

    name: str
    contention: Contention
    limit: Limit


class ContentionEnded(NamedTuple):
    """A sysctl had no drift for the quiet time, is not desired any more, or the configuration was reloaded."""

    name: str


class WriteRefused(NamedTuple):
    """The kernel refused writes of other programs to a guarded sysctl. The values are those of the last one."""

    name: str
    value: str
    writer: Writer
    times: int


class VirtualServicesLost(NamedTuple):
    """The virtual services of IPVS were lost with its module. `detail` contains their number."""

    detail: str


Change = Union[
    Drifted,
    Repaired,
    Applied,
    RepairFailed,
    Overwritten,
    ProblemAppeared,
    ProblemCleared,
    ContentionStarted,
    ContentionEnded,
    WriteRefused,
    VirtualServicesLost,
]


def label(item: DesiredItem) -> str:
    """Return the name under which an item is counted and reported: that of its pattern, if it has one."""
    return item.name if isinstance(item, DesiredModule) else item.pattern or item.key
