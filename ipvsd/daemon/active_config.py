"""The active configuration of a daemon: a valid one replaces it, and an invalid one leaves it unchanged.

Nothing indicates that a file is complete. So new files become active after a short time without changes, while no
program has one of them open for writing. An editor can also remove a file before writing the next one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, Optional

from ipvsd.config import config_files
from ipvsd.config.config_files import BEING_WRITTEN, Snapshot
from ipvsd.config.dump import fingerprint
from ipvsd.config.parser import ConfigError, parse
from ipvsd.config.schema import Config
from ipvsd.runtime import rootfs
from ipvsd.runtime.journal import log

if TYPE_CHECKING:
    from ipvsd.model.report import ConfigState

# Seconds without changes before new files become active. A shell script writes several lines in less time.
SETTLE = 0.5
# Seconds for which a file that had content must be missing or empty.
GONE = 10.0
_RARELY = 10.0  # seconds, at most, between two reads of a file that is being written


class Configured:
    """`config` is active. `errors` are those of a rejected one. `due` is the time of the next `reload`, or None."""

    config: Config

    def __init__(
        self,
        root: str,
        config_path: Optional[str],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`config_path` is the one file to read, instead of those on the system's paths under `root`."""
        self._root, self._config_path, self._clock, self._pause = root, config_path, clock, pause
        self._files: config_files.Files = ()
        self._kept: Optional[config_files.Files] = None
        self._seen, self._since = Snapshot(()), 0.0
        self._settled = False  # the active files have not changed for a short time
        self.errors: tuple[str, ...] = ()
        self.loaded_at: Optional[float] = None  # the time since the epoch of the last valid configuration
        self.due: Optional[float] = None

    def begin(self) -> bool:
        """Use the configuration, or the last good one; wait once if it is being written. Return whether any exists."""
        seen = self._look()
        if seen.being_written or self._replaced(seen):
            self._pause(SETTLE)
            seen = self._look()
        try:
            self.config = parse(seen.require_complete())
        except ConfigError as error:
            self._refuse(error)
        else:
            self._files, self.due = seen.files, self._since + SETTLE
            self.loaded_at = time.time()
            return True
        kept, why = self._last_good()
        if kept is None:
            log("error", f"{why}; ipvsd does not change the node")
            return False
        log("warning", "using the last good configuration")
        self._files, self.config = kept, parse(kept)
        return True

    def _last_good(self) -> tuple[Optional[config_files.Files], str]:
        from ipvsd.state import last_good_config, stored_json  # a start with a valid configuration needs neither

        try:
            kept = None if self._config_path else last_good_config.read(self._root)
        except (stored_json.UnusableError, rootfs.UnreadableError) as error:
            return None, f"cannot use the last good configuration: {error}"
        return kept, "" if kept is not None else "missing last good configuration"

    def reload(self, asked: bool) -> bool:
        """Read the configuration again, and return whether a new one became active.

        `asked` means that a person requests it. Then the files are used as they are, unless one is being written.
        """
        seen, now = self._look(), self._clock()
        same = seen.files == self._files and not seen.errors and not self.errors
        gone = not same and not seen.errors and _lost(self._files, seen.files)
        settles = self._since + (GONE if gone else SETTLE)
        self.due = settles if now < settles else None
        if same and self.due is None and not seen.being_written:
            self._settled = True
        if same and not asked:
            return False
        if seen.being_written:
            self.due = now + min(_RARELY, max(SETTLE, now - self._since))
            if asked:
                log("warning", f"cannot read the configuration: {seen.being_written[0]}: {BEING_WRITTEN}")
            return False
        if self.due is not None and not asked:
            return False
        return self._take(seen, asked)

    def _take(self, seen: Snapshot, asked: bool) -> bool:
        try:
            config = parse(seen.require_complete())
        except ConfigError as error:
            if asked or error.errors != self.errors:
                self._refuse(error)
                log("warning", "ipvsd keeps using the previous configuration")
            return False
        changed, refused = config != self.config, bool(self.errors)
        self._files, self.config, self.errors = seen.files, config, ()
        self.loaded_at = time.time()
        self._settled = self.due is None
        if changed or asked or refused:
            log("info", f"configuration loaded, {fingerprint(config)}")
        return changed or asked

    def _look(self) -> Snapshot:
        """Return the current files, and note the time of their last change."""
        seen = config_files.snapshot(self._root, self._config_path)
        if seen != self._seen:
            self._seen, self._since = seen, self._clock()
        return seen

    def _replaced(self, seen: Snapshot) -> bool:
        """Return whether the main file is missing or empty, but had content in the last good configuration."""
        if self._config_path or dict(seen.files).get(config_files.main_path(self._root), b"").strip():
            return False
        return bool(_lost(self._last_good()[0] or (), seen.files))

    @property
    def new(self) -> bool:
        """Whether `keep` has to store the configuration: it is valid, and known to be complete."""
        return self._settled and self._files is not self._kept and not self._config_path and not self.errors

    def keep(self) -> None:
        """Store it as the last good configuration, if it is new. Raises OSError."""
        if self.new:
            from ipvsd.state import last_good_config

            last_good_config.write(self._root, self._files)
            self._kept = self._files

    @property
    def waiting(self) -> tuple[str, ...]:
        """The reasons why newer files are not active yet, one sentence each."""
        seen = self._seen
        lost = () if seen.errors else _lost(self._files, seen.files)
        hint = f"(ipvsd accepts this after {GONE:g} s, or when the configuration is reloaded)"
        being_written = (f"cannot read {path}: {BEING_WRITTEN}" for path in seen.being_written)
        return (*being_written, *(f"{path} is missing or empty {hint}" for path in lost))

    @property
    def watched(self) -> bool:
        """Whether changes of the files are followed."""
        return self._config_path is None

    def directories(self) -> tuple[str, ...]:
        return () if self._config_path else config_files.directories(self._root)

    def state(self) -> ConfigState:
        from ipvsd.model.report import ConfigState  # imported while modules are loaded

        config = self.config
        names = tuple(name for name, _ in self._files)
        return ConfigState(fingerprint(config), config.profiles, names, config.interval, self.errors)

    def _refuse(self, error: ConfigError) -> None:
        self.errors = error.errors
        for line in ("cannot use the configuration:", *error.errors):
            log("error", line)


def _lost(before: config_files.Files, now: config_files.Files) -> Sequence[str]:
    """Return the files that had content and are missing or empty now."""
    content = dict(now)
    return [name for name, data in before if data.strip() and not content.get(name, b"").strip()]
