"""The start of the daemon: begin to load modules, and import and start the other parts meanwhile.

Modules that no module load and no write needs are imported after READY=1.
"""

from __future__ import annotations

import os
import time
from typing import Optional

from ipvsd.daemon.active_config import Configured
from ipvsd.kernel.host import LinuxHost
from ipvsd.reconcile.rounds import FirstRound
from ipvsd.runtime import instance_lock, resources


def run(root: str = "/", config_path: Optional[str] = None) -> int:
    """Run the daemon in this process unless another one runs for this root. Return the exit code.

    `root` contains /etc, /proc, /run and /var. `config_path` is the one file to read.
    """
    with instance_lock.hold(root) as alone:
        return _run(root, config_path) if alone else os.EX_TEMPFAIL


def _run(root: str, config_path: Optional[str]) -> int:
    resources.disable_huge_pages()
    configured = Configured(root, config_path)
    valid = configured.begin()
    if valid:
        resources.raise_limit()
        host = LinuxHost(root)
        first = FirstRound(host, configured.config, time.monotonic)
    from ipvsd.runtime.sd_notify import SdNotify

    notifier = SdNotify()
    if not valid:
        notifier.status(f"invalid configuration: {configured.errors[0]}")
        return os.EX_CONFIG
    from ipvsd.daemon.main_loop import Daemon

    Daemon(root, host, configured, notifier).run(first)
    return 0
