"""In the machine: a pod, or its visitors.

`serve NAME PORT` replies to each TCP connection and each UDP datagram with its name and the address of the client.
`visit TARGET...` sends requests to WHO:PROTOCOL/ADDRESS/PORT[/OWN PORT], each WHO in parallel and its targets in
turn. It prints a JSON list of the replies. The word `refused` or `silence` replaces a missing one. The network
namespace WHO can be `node`.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading

PATIENCE = 2.0


def address(peer: str) -> str:
    """Return an address without the prefix of an IPv4 address on an IPv6 socket."""
    return peer.rpartition("::ffff:")[2]


def sock(kind: socket.SocketKind, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    return made


def serve(name: str, port: int) -> None:
    datagrams, listener = sock(socket.SOCK_DGRAM, port), sock(socket.SOCK_STREAM, port)
    listener.listen(64)

    def echo() -> None:
        while True:
            _, peer = datagrams.recvfrom(1500)
            datagrams.sendto(f"{name} {address(peer[0])}".encode(), peer)

    threading.Thread(target=echo, daemon=True).start()
    print("serving", flush=True)
    while True:
        connection, peer = listener.accept()
        with connection:
            connection.sendall(f"{name} {address(peer[0])}".encode())


def visit(protocol: str, host: str, port: int, own: int = 0) -> str:
    """Return the reply. `own` is the port to send from."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as asking:
        asking.settimeout(PATIENCE)
        if own:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            asking.bind(("::" if ":" in host else "0.0.0.0", own))
        try:
            asking.connect((host, port))
            if protocol == "udp":
                asking.send(b"?")
            return asking.recv(1500).decode()
        except socket.timeout:
            return "silence"
        except OSError as error:
            return "refused" if isinstance(error, ConnectionRefusedError) else str(error)


def visits(who: str, targets: list[tuple[int, str]], answers: dict[int, str]) -> None:
    """Enter a network namespace in this thread only, and visit each target from there."""
    if who != "node":
        place = os.open(f"/run/netns/{who}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(place, 0):
            sys.exit(f"cannot enter {who}: {os.strerror(ctypes.get_errno())}")
        os.close(place)
    for number, target in targets:
        protocol, host, *ports = target.split("/")
        answers[number] = visit(protocol, host, *map(int, ports))


def main(targets: list[str]) -> None:
    asking: dict[str, list[tuple[int, str]]] = {}
    for number, target in enumerate(targets):
        who, _, what = target.partition(":")
        asking.setdefault(who, []).append((number, what))
    answers: dict[int, str] = {}
    threads = [threading.Thread(target=visits, args=(who, what, answers)) for who, what in asking.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps([answers[number] for number in range(len(targets))]))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    main(sys.argv[2:])
