"""The configuration as values: the fields of Config with their defaults, and the settings of an item."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

from collections.abc import Mapping
from typing import NamedTuple, Optional

from ipvsd.model.types import NOTHING, Policy, Want


class ModuleSetting(NamedTuple):
    """A user's settings of a module. None means unset."""

    origin: str
    required: Optional[bool] = None
    dropped: bool = False
    any_of: tuple[str, ...] = ()  # modules of which one suffices
    # A map of names to values. Default: none.
    #
    # The parameters that ipvsd passes to the kernel when it loads the module. If the module is live with a different
    # value, ipvsd writes the parameter if the kernel allows it. Otherwise, ipvsd shows the parameter as
    # _needs_module_reload_, because ipvsd never unloads a module. A parameter that is not compliant degrades the
    # node. Setting parameters for a module from a profile does not change whether the module is required.
    parameters: Mapping[str, str] = NOTHING


class SysctlSetting(NamedTuple):
    """A user's settings of a sysctl, or of all that match a pattern. None means unset."""

    origin: str
    want: Optional[Want] = None
    policy: Optional[Policy] = None
    required: Optional[bool] = None
    dropped: bool = False
    exclude: tuple[str, ...] = ()  # parts that the wildcards of a pattern must not match
    guard: Optional[bool] = None


class Config(NamedTuple):
    """The whole configuration, with defaults. Times are in seconds."""

    profiles: tuple[str, ...] = ("kube-proxy-ipvs",)
    kube_proxy: Optional[tuple[int, int]] = None  # its version, if known
    scheduler: str = "rr"
    strict_arp: bool = False
    bridge_netfilter: bool = True
    interval: float = 60.0
    startup_strict: bool = False
    startup_limit: float = 300.0
    contention_repairs: int = 20  # more repairs of one sysctl within the window are contention
    contention_window: float = 60.0
    contention_quiet: float = 300.0  # contention ends after this time without drift
    guard_allow: tuple[str, ...] = ()  # units that may write guarded sysctls
    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 14787), ("::1", 14787))
    web_config: Optional[str] = None  # a file for TLS and authentication
    textfile: Optional[str] = None  # a file for node_exporter
    # A map of names to settings. Default: none.
    #
    # Adds modules to those of the profiles, or overrides them. A name has 1 to 55 characters: A-Z, a-z, 0-9, \_ and
    # -. The characters \_ and - are equivalent.
    #
    # *NAME: {}* and *NAME: true* load the module. *NAME: false* removes the module from the desired state.
    #
    # ipvsd does not unload a module that it does not manage.
    modules: Mapping[str, ModuleSetting] = NOTHING
    # A map of names to values or settings. Default: none.
    #
    # Adds sysctls to those of the profiles, or overrides them. Settings that a file omits keep the value from the
    # profile or from an earlier file.
    #
    # *KEY: VALUE* is short for *KEY: {value: VALUE}*.
    #
    # With *KEY: false*, ipvsd does not manage the sysctl; the value in the kernel does not change.
    sysctls: Mapping[str, SysctlSetting] = NOTHING
    origins: Mapping[str, str] = NOTHING  # FILE:LINE of plain settings
