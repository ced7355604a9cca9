"""Findings about the table of tracked connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from ipvsd.config.schema import Config
from ipvsd.doctor import own_setting, sections
from ipvsd.doctor.finding import Finding, Severity

# Prometheus' node-mixin warns at 75 % (NodeHighNumberConntrackEntriesUsed in node_exporter's docs/node-mixin).
NEARLY_FULL = 0.75
# The choice of this project: so few entries are left that one burst of connections fills the table.
FULL = 0.95
_MAX = "net.netfilter.nf_conntrack_max"


class ConntrackFacts(NamedTuple):
    """The number of entries and its maximum, and the lines of the kernel's log about a full table."""

    entries: Optional[int] = None
    maximum: Optional[int] = None
    messages: Sequence[str] = ()


def findings(facts: ConntrackFacts, config: Config) -> Iterator[Finding]:
    """Yield a table that is nearly full, or was full since the boot."""
    used = facts.entries / facts.maximum if facts.entries is not None and facts.maximum else 0.0
    if used < NEARLY_FULL and not facts.messages:
        return
    evidence = [f"net.netfilter.nf_conntrack_count = {facts.entries}", f"{_MAX} = {facts.maximum}"]
    wanted = max(131072, 2 * (facts.maximum or 0))
    full = used >= FULL
    setting = config.sysctls.get(_MAX)
    summary = f"the table of tracked connections is {used:.0%} full"
    if used < NEARLY_FULL:
        summary = f"the table of tracked connections was full since the boot (now {used:.0%})"
    yield Finding(
        "conntrack_full" if full else "conntrack_nearly_full",
        Severity.ERROR if full else Severity.WARNING,
        summary,
        (*evidence, *facts.messages[-1:]),
        "the kernel drops new connections if the table is full",
        own_setting.written(f"sysctls: {{{_MAX}: {{atLeast: {wanted}}}}}", setting.origin if setting else ""),
        sections.TABLE_FULL,
    )
