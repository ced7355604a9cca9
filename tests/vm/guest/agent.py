"""In the machine: run the commands that arrive on a virtio port, one JSON object per line."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

PORT = Path("/dev/virtio-ports/bench")
lock = threading.Lock()


def execute(request: dict[str, Any]) -> dict[str, Any]:
    if "put" in request:
        path = Path(request["put"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(request["data"]))
        path.chmod(request["mode"])
        return {}
    try:
        done = subprocess.run(
            request["run"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=request["timeout"],
            cwd="/root",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return {"code": -1, "out": (error.stdout or b"").decode(errors="replace"), "err": "timed out"}
    return {
        "code": done.returncode,
        "out": done.stdout.decode(errors="replace"),
        "err": done.stderr.decode(errors="replace"),
    }


def answer(port: int, request: dict[str, Any]) -> None:
    reply = json.dumps({"id": request["id"], **execute(request)}).encode() + b"\n"
    with lock:
        while reply:
            reply = reply[os.write(port, reply) :]


def main() -> None:
    while not PORT.exists():
        time.sleep(0.05)
    port = os.open(PORT, os.O_RDWR)
    os.write(port, b'{"id": 0}\n')
    rest = b""
    while True:
        chunk = os.read(port, 65536)
        if not chunk:  # the other end is not open yet
            time.sleep(0.1)
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            threading.Thread(target=answer, args=(port, json.loads(line)), daemon=True).start()


main()
