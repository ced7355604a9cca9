"""Divide the time of `make fuzz` equally among all properties of the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz import properties


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT") or 1)
    properties.Share.seconds = properties.SECONDS * workers / max(1, len(mine))
