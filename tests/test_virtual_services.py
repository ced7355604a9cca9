from __future__ import annotations

from pathlib import Path

import pytest

from ipvsd.kernel.virtual_services import VirtualServiceCounter
from tests.trees import put

HEADING = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""
SERVICE = "TCP  0A600001:0050 rr\n  -> 0AF40002:1F90      Masq    1      0          0\n"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (HEADING + 3 * SERVICE, HEADING, "3 before, 0 now"),
        (HEADING + "FWM  00000001 rr\nUDP  x rr\nSCTP x rr\n", HEADING, "3 before, 0 now"),
        (HEADING + 9000 * SERVICE, HEADING, "at least 3"),
    ],
)
def test_the_services_are_counted_before_and_after(tmp_path: Path, before: str, after: str, told: str) -> None:
    put(tmp_path, "proc/net/ip_vs", before)
    table = VirtualServiceCounter(str(tmp_path))
    table.update()
    put(tmp_path, "proc/net/ip_vs", after)
    said = table.describe_loss({"ip_vs", "ip_vs_rr"})
    assert said is not None
    assert told in said
    assert "kube-proxy writes them again" in said


def test_a_table_that_went_meanwhile_is_remembered(tmp_path: Path) -> None:
    file = put(tmp_path, "proc/net/ip_vs", HEADING + SERVICE)
    table = VirtualServiceCounter(str(tmp_path))
    table.update()
    file.unlink()
    table.update()
    assert "1 before, unknown now" in str(table.describe_loss({"ip_vs"}))


@pytest.mark.parametrize("before", [HEADING, "\xff\n\n" * 9])
def test_an_empty_table_is_no_loss(tmp_path: Path, before: str) -> None:
    put(tmp_path, "proc/net/ip_vs", before)
    table = VirtualServiceCounter(str(tmp_path))
    table.update()
    assert table.describe_loss({"ip_vs"}) is None


def test_another_module_loses_nothing(tmp_path: Path) -> None:
    assert VirtualServiceCounter(str(tmp_path)).describe_loss({"ip_vs_rr", "nf_conntrack"}) is None
