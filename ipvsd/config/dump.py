"""A Config as plain values, for `config show` and for its hash."""

from __future__ import annotations

from typing import Any

from ipvsd.config.schema import Config, ModuleSetting, SysctlSetting
from ipvsd.model.types import Exactly, OneOf, Within


def as_mapping(config: Config) -> dict[str, Any]:
    """Return the configuration as a document. Written as YAML, it would have the same effect."""
    return {
        "profiles": list(config.profiles),
        "kubeProxyVersion": "{}.{}".format(*config.kube_proxy) if config.kube_proxy else None,
        "scheduler": config.scheduler,
        "strictARP": config.strict_arp,
        "bridgeNetfilter": config.bridge_netfilter,
        "interval": _duration(config.interval),
        "startup": {"mode": "strict" if config.startup_strict else "lenient", "limit": _duration(config.startup_limit)},
        "contention": {
            "repairs": config.contention_repairs,
            "window": _duration(config.contention_window),
            "quiet": _duration(config.contention_quiet),
        },
        "guard": {"allow": list(config.guard_allow)},
        "web": {
            "listen": [address(host, port) for host, port in config.listen],
            "configFile": config.web_config,
            "textfile": config.textfile,
        },
        "modules": {name: _module(setting) for name, setting in config.modules.items()},
        "sysctls": {key: _sysctl(setting) for key, setting in config.sysctls.items()},
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def address(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address, or :PORT for all addresses."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def fingerprint(config: Config) -> str:
    """Return 12 hexadecimal digits that change if and only if an effective value changes."""
    import hashlib  # after READY=1, because it loads OpenSSL
    import json

    text = json.dumps(as_mapping(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _module(setting: ModuleSetting) -> Any:
    if setting.dropped:
        return False
    parameters = dict(setting.parameters) or None
    return _without_none(required=setting.required, anyOf=list(setting.any_of) or None, parameters=parameters)


def _sysctl(setting: SysctlSetting) -> Any:
    if setting.dropped:
        return False
    want = setting.want
    return _without_none(
        value=want.value if isinstance(want, Exactly) else None,
        oneOf=list(want.values) if isinstance(want, OneOf) else None,
        atLeast=want.floor if isinstance(want, Within) else None,
        atMost=want.ceiling if isinstance(want, Within) else None,
        exclude=list(setting.exclude) or None,
        guard=setting.guard,
        policy=setting.policy and setting.policy.value,
        required=setting.required,
    )


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
