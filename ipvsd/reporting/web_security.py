"""Load the web configuration file and the files that it names, as the protection of the HTTP server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ipvsd.config import config_files, web_config
from ipvsd.config.parser import ConfigError
from ipvsd.config.web_config import ClientAuth, TlsSettings, WebConfig
from ipvsd.config.yaml_tree import MAX_BYTES
from ipvsd.runtime import rootfs
from ipvsd.runtime.http_security import OPEN, Security

_CERTIFICATE, _KEY, _CLIENT_CA = (f"tls_server_config.{name}" for name in ("cert_file", "key_file", "client_ca_file"))


class Files(NamedTuple):
    """The content of the web configuration file and of the files that it names, by their path under the root.

    `errors` are those of files that cannot be used. `paths` are all paths, to watch for changes.
    """

    contents: tuple[tuple[str, bytes], ...] = ()
    errors: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def read(root: str, path: Optional[str]) -> Files:
    """Return the current files. Without a path, there are none."""
    if path is None:
        return Files()
    contents: list[tuple[str, bytes]] = []
    errors: list[str] = []
    paths = [path]
    data = _read(root, path, errors)
    if data is not None:
        contents.append((path, data))
        try:
            config = web_config.parse(_under(root, path), data)
        except ConfigError:  # `load` reports it
            config = WebConfig()
        for key, name in _named(path, config.tls):
            paths.append(name)
            found = _read(root, name, errors, f"{config.origins[key]}: {key}: ")
            contents += [] if found is None else [(name, found)]
    return Files(tuple(contents), tuple(errors), tuple(paths))


def require_valid(root: str, path: Optional[str]) -> None:
    """Raise ConfigError with all errors if the file, or one that it names, cannot be used."""
    load(root, path, read(root, path))


def load(root: str, path: Optional[str], files: Files) -> Security:
    """Return the protection that these files describe. Raises ConfigError with all errors."""
    if path is None:
        return OPEN
    contents = dict(files.contents)
    if path not in contents:
        raise ConfigError(files.errors)
    config = web_config.parse(_under(root, path), contents[path])
    if files.errors:
        raise ConfigError(files.errors)
    users = None
    if config.users:
        from ipvsd.runtime import basic_auth

        try:
            basic_auth.require_bcrypt()
        except basic_auth.NoBcryptError as error:
            raise ConfigError([f"{config.origins['basic_auth_users']}: basic_auth_users: {error}"]) from None
        users = basic_auth.Users(config.users)
    security = Security(users=users, headers=config.headers)
    return security if config.tls is None else _with_tls(security, root, path, config, config.tls, contents)


def _with_tls(
    security: Security, root: str, path: str, config: WebConfig, settings: TlsSettings, contents: dict[str, bytes]
) -> Security:
    from ipvsd.runtime import certificate_expiry, tls

    files = dict(_named(path, settings))
    certificate, key = contents[files[_CERTIFICATE]], contents[files[_KEY]]
    ca = files.get(_CLIENT_CA)
    required = settings.client_auth is ClientAuth.REQUIRED
    try:
        secured = tls.Tls(
            certificate, key, contents[ca] if ca else None, required, (settings.min_version, settings.max_version)
        )
    except tls.TlsError as error:
        name = f"tls_server_config.{error.field}"
        raise ConfigError([f"{config.origins[name]}: {name}: {_under(root, files[name])}: {error.reason}"]) from None
    except OSError as error:
        problem = f"{config.origins[_CERTIFICATE]}: {_CERTIFICATE}: cannot load the certificate: {error.strerror}"
        raise ConfigError([problem], unreadable=True) from None
    return security._replace(tls=secured, expiry=certificate_expiry.expiry(certificate))


def _named(path: str, tls: Optional[TlsSettings]) -> Iterator[tuple[str, str]]:
    """Yield the key and the path of the certificate, its key and the certificate authority, relative to the file."""
    if tls is not None:
        for key, name in ((_CERTIFICATE, tls.cert_file), (_KEY, tls.key_file), (_CLIENT_CA, tls.client_ca_file)):
            if name is not None:
                yield key, os.path.normpath(os.path.join(os.path.dirname(path), name))


def _under(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _read(root: str, path: str, errors: list[str], where: str = "") -> Optional[bytes]:
    """Return the content of a file. If it cannot be used, add the reason to `errors` and return None.

    `where` is the place that names the file, as the beginning of an error.
    """
    name = _under(root, path)
    try:
        # A private key keeps its other permissions.
        with config_files.open_trusted(root, path.lstrip("/"), name, root == "/", "go-w") as fd:
            return rootfs.read_at_most(fd, MAX_BYTES + 1)
    except OSError as error:
        errors.append(f"{where}{name}: cannot read the file: {error.strerror or error}")
    except config_files.UntrustedError as error:
        errors.append(f"{where}{name}: {error}")
    return None
