"""The configuration that a daemon follows: a good one is taken, a bad one leaves the last good one at work."""

from __future__ import annotations

from typing import Optional

from ipvsd import configfiles, rooted, stored
from ipvsd.config import Config, ConfigError, parse
from ipvsd.effective import fingerprint
from ipvsd.journal import log
from ipvsd.report import ConfigState


class Configured:
    """`config` is the one at work; `errors` are those of a newer one that was refused."""

    config: Config

    def __init__(self, root: str, only: Optional[str]) -> None:
        """`only` is the one file to read, in place of those on the system's paths below `root`."""
        self._root, self._only = root, only
        self._files: configfiles.Files = ()
        self.errors: tuple[str, ...] = ()

    def begin(self) -> bool:
        """Take the configuration, or else the last good one; return whether there was any."""
        try:
            self._files = configfiles.read(self._root, self._only)
            self.config = parse(self._files)
        except ConfigError as error:
            self._refuse(error)
        else:
            return True
        kept, why = self._last_good()
        if kept is None:
            log("error", f"{why}; the node is left as it is")
            return False
        log("warning", "starting with the last good configuration")
        self._files, self.config = kept, parse(kept)
        return True

    def _last_good(self) -> tuple[Optional[configfiles.Files], str]:
        """Return the last good files, or why there are none."""
        try:
            kept = None if self._only else configfiles.last_good(self._root)
        except (stored.UnusableError, rooted.UnreadableError) as error:
            return None, f"cannot use the last good configuration either: {error}"
        return kept, "" if kept is not None else "there is no last good configuration either"

    def reload(self, asked: bool) -> bool:
        """Read it again, and return whether it is to be taken as new; `asked` says that a person wants it so."""
        try:
            files = configfiles.read(self._root, self._only)
            if not asked and files == self._files and not self.errors:
                return False
            config = parse(files)
        except ConfigError as error:
            if asked or error.errors != self.errors:
                self._refuse(error)
                log("warning", "the previous configuration stays at work")
            return False
        changed = config != self.config
        self._files, self.config, self.errors = files, config, ()
        if changed or asked:
            log("info", f"configuration loaded, {fingerprint(config)}")
        return changed or asked

    def keep(self) -> None:
        """Remember it as the last good one."""
        if self._only or self.errors:
            return
        try:
            configfiles.keep(self._root, self._files)
        except OSError as error:
            log("debug", f"cannot keep the last good configuration: {error}")

    def directories(self) -> tuple[str, ...]:
        """Return the directories in which a change matters."""
        return () if self._only else configfiles.directories(self._root)

    def state(self) -> ConfigState:
        """Return what is told of it."""
        config = self.config
        names = tuple(name for name, _ in self._files)
        return ConfigState(fingerprint(config), config.profiles, names, config.interval, self.errors)

    def _refuse(self, error: ConfigError) -> None:
        self.errors = error.errors
        for line in ("cannot use the configuration:", *error.errors):
            log("error", line)
