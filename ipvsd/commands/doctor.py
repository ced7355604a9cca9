"""ipvsd doctor: findings about this node and the running kube-proxy."""

from __future__ import annotations

from typing import Optional

from ipvsd.commands import check


def run(root: str, config_path: Optional[str], output: str) -> int:
    """Exit as `ipvsd check`."""
    return check.run(root, config_path, output)
