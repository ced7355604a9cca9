"""The note about the certificate of the HTTP endpoint: when there is one, and when it is logged."""

from __future__ import annotations

import pytest

from ipvsd.model.report import State
from ipvsd.reporting.certificate_notice import LIMIT, CertificateNotice
from tests import monitoring
from tests.asking import said
from tests.samples import NOW, module, report


def test_the_note_is_logged_when_it_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    notice, made = CertificateNotice(), report(module())
    expiries = (None, NOW + LIMIT, NOW + LIMIT - 1, NOW + LIMIT - 1, NOW, NOW - 1, NOW - 1, NOW + LIMIT, NOW - 1)
    completed = [notice.complete(made._replace(web_certificate_expiry=expiry)) for expiry in expiries]

    assert [bool(found.notes) for found in completed] == [False, False, True, True, True, True, True, False, True]
    assert {found.health.state for found in completed} == {State.READY}
    notes = [" ".join(found.notes) for found in completed]
    assert said(capsys) == [f"warning: {notes[index]}" for index in (2, 4, 5, 8)]
    assert "2027-01-22 07:59:59 UTC" in notes[2]
    assert [note.partition(" on ")[0].rpartition(" ")[2] for note in notes[3:6]] == ["expires", "expires", "expired"]


def test_the_limit_is_that_of_the_alert() -> None:
    assert monitoring.alerts()["IpvsdCertificateExpiring"]["expr"].endswith(f" < {LIMIT / 86400:g} * 86400")
