"""ipvsd config: the effective configuration, or the validation of a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from ipvsd.commands.output import EX_CANNOT_TELL, print_errors, print_json, print_lines
from ipvsd.config import config_files
from ipvsd.config.dump import as_mapping, fingerprint
from ipvsd.config.keys import GROUPS, SETTINGS
from ipvsd.config.parser import ConfigError, parse
from ipvsd.config.schema import Config


def show(root: str, config_path: str | None, output: str) -> int:
    """Print every effective value and its origin. Exits 78 (by ConfigError) if there is an error."""
    files = config_files.read(root, config_path)
    config = parse(files)
    values = as_mapping(config)
    if output == "json":
        names = [name for name, _ in files]
        print_json({"files": names, "hash": fingerprint(config), "values": values, "origins": _origins(config)})
    else:
        print_lines(f"# hash {fingerprint(config)}", *_lines(config, values))
    return 0


def validate(root: str, config_path: str | None, output: str) -> int:
    """Report whether the configuration is valid. Exits 78 (as text, by ConfigError) if not, or 2 if unreadable."""
    names: list[str] = []
    try:
        files = config_files.read(root, config_path)
        names = [name for name, _ in files]
        web = parse(files).web_config
        if web is not None:
            from ipvsd.reporting import web_security  # only this file needs ssl

            web_security.require_valid(root, web)
    except ConfigError as error:
        if output != "json":
            raise
        errors = list(error.errors)
        print_errors(*errors)
        print_json({"valid": False, "files": names, "error": errors[0], "errors": errors})
        return EX_CANNOT_TELL if error.unreadable else os.EX_CONFIG
    if output == "json":
        print_json({"valid": True, "files": names, "errors": []})
    else:
        print_lines(f"valid: {', '.join(names) or 'built-in defaults (no configuration file)'}")
    return 0


_FIELDS = {
    **{key: field for key, (field, _) in SETTINGS.items()},
    **{f"{group}.{key}": field for group, settings in GROUPS.items() for key, (field, _) in settings.items()},
}


def _origins(config: Config) -> dict[str, str]:
    plain = {key: config.origins.get(field, "default") for key, field in _FIELDS.items()}
    modules = {f"modules.{name}": setting.origin for name, setting in config.modules.items()}
    return {**plain, **modules, **{f"sysctls.{key}": setting.origin for key, setting in config.sysctls.items()}}


def _lines(config: Config, values: dict[str, Any]) -> Iterator[str]:
    origins = _origins(config)
    for key, value in values.items():
        if not isinstance(value, dict):
            yield f"{key}: {_flow(value)}  # {origins[key]}"
        elif not value:
            yield f"{key}: {{}}"
        else:
            yield f"{key}:"
            yield from (f"  {name}: {_flow(item)}  # {origins[f'{key}.{name}']}" for name, item in value.items())


def _flow(value: Any) -> str:
    """Return a value in YAML's flow style. JSON is valid there, and plain words need no quotes."""
    if isinstance(value, str) and value.replace("-", "").isalnum() and not value.isdecimal():
        return value
    return json.dumps(value)
