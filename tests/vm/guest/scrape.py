"""Inside the machine: scrape ipvsd with a client certificate every SECONDS, as Prometheus does. A failure ends it.

`scrape.py PKI SECONDS COUNT` writes the number of scrapes to the file COUNT after each.
"""

from __future__ import annotations

import http.client
import ssl
import sys
import time
from pathlib import Path

HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}


def main(pki: str, seconds: float, count: Path) -> None:
    context = ssl.create_default_context(cafile=f"{pki}/ca.crt")
    context.load_cert_chain(f"{pki}/client.crt", f"{pki}/client.key")
    connection = http.client.HTTPSConnection("127.0.0.1", 14787, timeout=10, context=context)
    done = 0
    while True:
        connection.request("GET", "/metrics", headers=HEADERS)
        answer = connection.getresponse()
        if answer.status != 200 or not answer.read():
            sys.exit(f"status {answer.status}")
        done += 1
        count.write_text(f"{done}\n")
        time.sleep(seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
