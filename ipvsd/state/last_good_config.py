"""/var/lib/ipvsd/last-good.json: the files of the last good configuration."""

from __future__ import annotations

import errno
import json
from typing import Optional

from ipvsd.config.config_files import Files
from ipvsd.config.parser import ConfigError, parse
from ipvsd.runtime import rootfs
from ipvsd.state import stored_json

PATH = "var/lib/ipvsd/last-good.json"
_MAX_BYTES = 1 << 24


def write(root: str, files: Files) -> None:
    """Store these files as the last good configuration, durably. Raises OSError."""
    data = json.dumps([[name, data.decode("utf-8", "surrogateescape")] for name, data in files]).encode()
    if len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, f"the files are larger than {_MAX_BYTES} bytes", PATH)
    if rootfs.content(root, PATH, _MAX_BYTES) != data:
        rootfs.write(root, PATH, data, durable=True, mode=0o600)


def read(root: str) -> Optional[Files]:
    """Return the files that `write` stored, or None. Raises stored_json.UnusableError and rootfs.UnreadableError."""
    data = stored_json.read(root, PATH, _MAX_BYTES)
    if data is None:
        return None
    pairs = stored_json.parse(data)
    stored_json.check(pairs, [[str]])
    try:
        files = tuple((name, text.encode("utf-8", "surrogateescape")) for name, text in pairs)
        parse(files)
    except ConfigError as error:
        problem = "the file is damaged, or from a different version"
        raise stored_json.UnusableError(f"{problem}: {error.errors[0]}") from None
    except ValueError:  # not a pair, or a surrogate
        raise stored_json.UnusableError("the file is damaged") from None
    return files
