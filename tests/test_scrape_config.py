"""The ScrapeConfig in docs/web.md: the API server accepts it, and the operator creates the job of the page from it."""

from __future__ import annotations

import copy
import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional

import pytest
import yaml

from tests.web_page import examples, section

TITLE = "The Prometheus operator"
Check = Callable[[Any, str], Iterator[str]]


@dataclasses.dataclass(frozen=True)
class Object:
    """An object with these fields only, some of which are required. The API server drops unknown fields silently."""

    fields: Mapping[str, Check]
    required: frozenset[str] = frozenset()
    alternatives: bool = False  # exactly one field

    def __call__(self, value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: must be an object"
            return
        yield from (f"{where}.{key}: unknown field" for key in value if key not in self.fields)
        yield from (f"{where}.{key}: missing" for key in sorted(self.required - set(value)))
        if self.alternatives and len(value) != 1:
            yield f"{where}: must have exactly one field"
        for key, check in self.fields.items():
            if key in value:
                yield from check(value[key], f"{where}.{key}")


def text(pattern: str = ".+") -> Check:
    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            yield f"{where}: must be a string that matches {pattern}"

    return check


def items(check: Check) -> Check:
    """A list of at least one item, without duplicates."""

    def check_all(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list) or not value or any(item in value[:index] for index, item in enumerate(value)):
            yield f"{where}: must be a list of different items"
            return
        for index, item in enumerate(value):
            yield from check(item, f"{where}[{index}]")

    return check_all


# The part of the CRD that the page needs, as in prometheus-operator's pkg/apis/monitoring (v1/types.go and
# v1alpha1/scrapeconfig_types.go). Older versions accept `scheme` only in upper case.
NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"  # RFC 1123
KEY = Object({"name": text(NAME), "key": text("[-._a-zA-Z0-9]+")}, frozenset({"name", "key"}))
SOURCE = Object({"secret": KEY, "configMap": KEY}, alternatives=True)
SPEC = Object(
    {
        "jobName": text(),
        "scheme": text("HTTP|HTTPS"),
        "tlsConfig": Object({"ca": SOURCE, "cert": SOURCE, "keySecret": KEY, "serverName": text()}),
        "basicAuth": Object({"username": KEY, "password": KEY}),
        "staticConfigs": items(Object({"targets": items(text(r"[^/\s]+:[0-9]+"))}, frozenset({"targets"}))),
    },
    frozenset({"jobName", "scheme", "staticConfigs"}),
)
DOCUMENT = Object(
    {
        "apiVersion": text("monitoring.coreos.com/v1alpha1"),
        "kind": text("ScrapeConfig"),
        "metadata": Object({"name": text(NAME), "namespace": text(NAME)}, frozenset({"name", "namespace"})),
        "spec": SPEC,
    },
    frozenset({"apiVersion", "kind", "metadata", "spec"}),
)


def document() -> Any:
    return yaml.safe_load(examples(TITLE, "apiVersion")[0])


def test_the_api_server_accepts_the_document() -> None:
    assert list(DOCUMENT(document(), "")) == []


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("apiVersion", "monitoring.coreos.com/v1", ".apiVersion: must be"),
        ("spec.scheme", "https", ".spec.scheme: must be"),
        ("spec.jobName", "", ".spec.jobName: must be"),
        ("spec.job_name", "ipvsd", ".spec.job_name: unknown"),
        ("spec.staticConfigs", [], ".spec.staticConfigs: must be"),
        ("spec.staticConfigs", None, ".spec.staticConfigs: missing"),
        ("spec.staticConfigs", [{"targets": ["a:1", "a:1"]}], ".spec.staticConfigs[0].targets: must be"),
        ("spec.staticConfigs", [{"targets": ["https://a:1"]}], ".spec.staticConfigs[0].targets[0]: must be"),
        ("spec.tlsConfig.ca", "ca.crt", ".spec.tlsConfig.ca: must be"),
        ("spec.tlsConfig.ca.configMap", {"name": "a", "key": "b"}, ".spec.tlsConfig.ca: must have"),
        ("spec.tlsConfig.caFile", "/ca.crt", ".spec.tlsConfig.caFile: unknown"),
        ("spec.basicAuth.password", {"name": "ipvsd-scrape"}, ".spec.basicAuth.password.key: missing"),
        ("spec.basicAuth.username", "prometheus", ".spec.basicAuth.username: must be"),
    ],
)
def test_a_mistake_is_found(path: str, value: Any, error: str) -> None:
    changed = document()
    *parents, last = path.split(".")
    place = changed
    for key in parents:
        place = place[key]
    place.pop(last, None)
    if value is not None:
        place[last] = copy.copy(value)
    (found,) = DOCUMENT(changed, "")
    assert found.startswith(error)


def secret() -> tuple[str, str, Mapping[str, Optional[str]]]:
    """Return the namespace, the name and the data of the Secret that the command of the page creates.

    The content of a file is None.
    """
    (command,) = re.findall(r"`kubectl ([^`]*create secret[^`]*)`", section(TITLE))
    words = shlex.split(command)
    name = words[words.index("generic") + 1]
    data: dict[str, Optional[str]] = {}
    for option, value in re.findall(r"--from-(literal|file)=(\S+)", command):
        key, _, content = value.partition("=")
        data[key] = content if option == "literal" else None
    return words[words.index("-n") + 1], name, data


def test_the_operator_creates_the_job_of_the_page() -> None:
    """The operator turns each field into that of Prometheus, with the content of the Secret in the same namespace."""
    found = document()
    spec = found["spec"]
    namespace, name, data = secret()
    references = (spec["tlsConfig"]["ca"]["secret"], *spec["basicAuth"].values())
    assert namespace == found["metadata"]["namespace"]
    assert [(item["name"], item["key"] in data) for item in references] == [(name, True)] * 3
    ca, user, password = (data[item["key"]] for item in references)

    (job,) = yaml.safe_load(examples("Passwords", "scrape_configs")[0])["scrape_configs"]
    assert (ca, password) == (None, "PASSWORD")  # a file, and a placeholder
    created = {
        "job_name": spec["jobName"],
        "scheme": spec["scheme"].lower(),
        "tls_config": {"ca_file": job["tls_config"]["ca_file"]},
        "basic_auth": {"username": user, "password_file": job["basic_auth"]["password_file"]},
        "static_configs": spec["staticConfigs"],
    }
    assert created == job
    assert set(spec) == {"jobName", "scheme", "tlsConfig", "basicAuth", "staticConfigs"}
