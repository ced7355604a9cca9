"""Configurations from the texts of files 0.yaml, 1.yaml, ..., and their errors."""

from __future__ import annotations

import functools

from ipvsd.config.parser import ConfigError, parse
from ipvsd.config.schema import Config


@functools.lru_cache(maxsize=256)
def config(*texts: str) -> Config:
    return parse((f"{number}.yaml", text.encode()) for number, text in enumerate(texts))


def errors(*texts: str) -> tuple[str, ...]:
    try:
        config(*texts)
    except ConfigError as error:
        return error.errors
    return ()


def error(*texts: str) -> str:
    (found,) = errors(*texts)
    return found
