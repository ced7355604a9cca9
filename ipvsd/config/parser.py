"""Turn the files of the configuration into one Config, check it as a whole, and report all errors of all files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ipvsd.config import profiles, yaml_tree
from ipvsd.config.schema import Config
from ipvsd.model.types import Exactly, Within
from ipvsd.sysctl import values


class ConfigError(Exception):
    """The configuration is invalid. `errors` contains `file:line: key: problem (hint)` for each reason.

    If it is `unreadable`, a file exists or may exist, and its content is unknown.
    """

    def __init__(self, errors: Iterable[str], unreadable: bool = False) -> None:
        self.errors, self.unreadable = tuple(errors), unreadable
        super().__init__("\n".join(self.errors))


def parse(files: Iterable[tuple[str, bytes]]) -> Config:
    """Return the Config of files (name, content), the later ones last. Raises ConfigError with all errors."""
    files = tuple(files)
    if all(yaml_tree.is_blank(data) for _, data in files):
        return Config()
    from ipvsd.config.document_reader import ConfigReader  # a start with the shipped file does not need it

    reader = ConfigReader()
    for name, data in files:
        reader.file(name, data)
    config = Config(**reader.values, modules=reader.modules, sysctls=reader.sysctls, origins=reader.origins)
    reader.errors.extend(error for check in _CHECKS for error in check(config))
    if reader.errors:
        raise ConfigError(reader.errors)
    return config


def _unknown(config: Config) -> Iterator[str]:
    """Yield the error of an unknown scheduler. A scheduler outside the kernel has to be listed as a module."""
    name = config.scheduler
    if name in profiles.SCHEDULERS or f"ip_vs_{name}" in config.modules:
        return
    from ipvsd.config import spelling

    suggestion = spelling.scheduler(name)
    other = "to use a different scheduler, add the scheduler module to 'modules'"
    known = f"known: {', '.join(profiles.SCHEDULERS)}; {other}"
    hint = f"did you mean {suggestion!r}?" if suggestion else known
    yield f"{config.origins.get('scheduler', 'default')}: scheduler: unknown scheduler {name!r} ({hint})"


def _misspelt(config: Config) -> Iterator[str]:
    """Yield errors for names that are certainly misspelt. `required: false` permits those of modules and sysctls."""
    known = {entry.key for profile in profiles.PROFILES.values() for entry in profile.sysctls}
    unknown = [key for key, setting in config.sysctls.items() if key not in known and setting.required is not False]
    named = [
        (setting, key, name)
        for key, setting in config.modules.items()
        for name in setting.any_of or (key,)
        if setting.required is not False
    ]
    parameters = [(setting.origin, key, name) for key, setting in config.modules.items() for name in setting.parameters]
    if not unknown and not named and not parameters:
        return
    from ipvsd.config import spelling

    for origin, key, name in parameters:
        suggestion = spelling.parameter(f"{key}.{name}")
        if suggestion:
            hint = f"did you mean {suggestion.partition('.')[2]!r}?"
            yield f"{origin}: modules.{key}.parameters.{name}: unknown parameter ({hint})"

    admit = "If some kernels have the {}, set 'required: false'"
    for setting, key, name in named:
        suggestion = spelling.module(name)
        if suggestion:
            hint = f"did you mean {suggestion!r}? {admit.format('module')}"
            yield f"{setting.origin}: modules.{key}: unknown module {name!r} ({hint})"
    for key in unknown:
        suggestion = spelling.sysctl(key)
        if suggestion:
            origin = config.sysctls[key].origin
            yield f"{origin}: sysctls.{key}: unknown sysctl (did you mean {suggestion}? {admit.format('sysctl')})"


def _incomplete(config: Config) -> Iterator[str]:
    known = {entry.key for name in config.profiles for entry in profiles.PROFILES[name].sysctls}
    for key, setting in config.sysctls.items():
        if setting.want is None and not setting.dropped and key not in known:
            yield f"{setting.origin}: sysctls.{key}: missing value (add 'value: ...'; no profile sets a value)"


def _conflicting(config: Config) -> Iterator[str]:
    """Yield errors for an upper bound below a profile's minimum. With a lower bound, it replaces the range."""
    for name in config.profiles:
        for entry in profiles.PROFILES[name].sysctls:
            setting = config.sysctls.get(entry.key)
            want = setting.want if setting else None
            if not setting or not isinstance(want, Within) or not isinstance(entry.want, profiles.PerCpu):
                continue
            if want.floor is None and want.ceiling is not None and want.ceiling < entry.want.minimum:
                problem = f"'atMost' is below {entry.want.minimum}, the minimum of profile {name}"
                yield f"{setting.origin}: sysctls.{entry.key}: {problem} (add 'atLeast')"


def _refused(config: Config) -> Iterator[str]:
    from ipvsd.config.value_readers import SWITCHES

    for key, setting in config.sysctls.items():
        text = values.find_invalid_number(key, setting.want)
        if text is not None:
            number = str(SWITCHES.get(text.lower(), ""))
            hint = f" (write {number})" if number and values.find_invalid_number(key, Exactly(number)) is None else ""
            yield f"{setting.origin}: sysctls.{key}: must be a number, not {text!r}{hint}"


_CHECKS = (_unknown, _misspelt, _incomplete, _conflicting, _refused)
