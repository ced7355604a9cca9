"""The protection of the HTTP server: TLS, passwords and added headers. The main thread replaces it as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Optional

from ipvsd.model.types import NOTHING

if TYPE_CHECKING:
    from ipvsd.runtime.basic_auth import Users
    from ipvsd.runtime.tls import Tls


class Security(NamedTuple):
    """`expiry` is when the certificate expires, in seconds since the epoch, if known."""

    tls: Optional[Tls] = None
    users: Optional[Users] = None
    headers: Mapping[str, str] = NOTHING
    expiry: Optional[float] = None


OPEN = Security()
