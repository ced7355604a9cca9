"""In the machine: the part of the Kubernetes API that kube-proxy uses, over HTTP on loopback.

It serves the objects of a JSON file: a map of resources (nodes, services, endpoints, endpointslices) to lists. When
the file is replaced, watchers receive the differences. Events are accepted and dropped.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

KINDS = {"nodes": "Node", "services": "Service", "endpoints": "Endpoints", "endpointslices": "EndpointSlice"}


class Store:
    """The current objects, and each change with its number, which is the resource version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = threading.Condition()
        self.version = 1
        self.objects: dict[str, dict[str, Object]] = {resource: {} for resource in KINDS}
        self.changes: list[tuple[int, str, str, Object]] = []

    def follow(self) -> None:
        """Read the file repeatedly."""
        seen = ""
        while True:
            text = self.path.read_text()
            if text != seen:
                try:
                    wanted = json.loads(text)
                except ValueError:  # it is being written
                    continue
                seen = text
                with self.changed:
                    for resource in KINDS:
                        self._replace(resource, {_key(item): item for item in wanted.get(resource, ())})
                    self.changed.notify_all()
            time.sleep(0.1)

    def _replace(self, resource: str, wanted: dict[str, Object]) -> None:
        held = self.objects[resource]
        for key in [key for key in held if key not in wanted]:
            self._change(resource, "DELETED", held.pop(key))
        for key, item in wanted.items():
            old = held.get(key)
            if old is None or _bare(old) != item:
                held[key] = self._change(resource, "MODIFIED" if old else "ADDED", item)

    def _change(self, resource: str, kind: str, item: Object) -> Object:
        self.version += 1
        stamped = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
        self.changes.append((self.version, resource, kind, stamped))
        return stamped


def _key(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _bare(item: Object) -> Object:
    return {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}}


class Handler(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path.strip("/").split("/"), parse_qs(urlsplit(self.path).query)
        group = "/".join(path[1:3]) if path[0] == "apis" else path[1] if len(path) > 1 else ""
        rest = path[3:] if path[0] == "apis" else path[2:]
        if not rest or rest[0] not in KINDS:
            self._answer(404, _status(404))
        elif len(rest) == 2:
            found = self.store.objects[rest[0]].get(f"/{rest[1]}")
            self._answer(200, _typed(found, rest[0], group)) if found else self._answer(404, _status(404))
        elif query.get("watch", ["false"])[0] in ("true", "1"):
            self._watch(rest[0], group, int(query.get("resourceVersion", ["0"])[0] or 0))
        else:
            with self.store.changed:
                items, version = list(self.store.objects[rest[0]].values()), self.store.version
            listed = {"kind": f"{KINDS[rest[0]]}List", "apiVersion": group, "items": items}
            self._answer(200, {**listed, "metadata": {"resourceVersion": str(version)}})

    def do_POST(self) -> None:
        self._answer(201, json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}"))

    def _watch(self, resource: str, group: str, since: int) -> None:
        self._begin(200)
        try:
            while True:
                with self.store.changed:
                    new = [change for change in self.store.changes if change[0] > since]
                    if not new:
                        self.store.changed.wait()
                for number, kind_of, kind, item in new:
                    since = number
                    if kind_of == resource:
                        line = {"type": kind, "object": _typed(item, resource, group)}
                        self.wfile.write(json.dumps(line).encode() + b"\n")
                        self.wfile.flush()
        except OSError:  # the client has stopped watching
            pass

    def _answer(self, code: int, document: Object) -> None:
        self._begin(code)
        self.wfile.write(json.dumps(document).encode())

    def _begin(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log no requests, because the journal belongs to kube-proxy."""


def _typed(item: Object, resource: str, group: str) -> Object:
    return {"kind": KINDS[resource], "apiVersion": group, **item}


def _status(code: int) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": code}


if __name__ == "__main__":
    store = Store(Path(sys.argv[1]))
    Handler.store = store
    threading.Thread(target=store.follow, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
