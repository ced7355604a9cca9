"""A bench machine with the package installed, and queries for the tests."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

from tests.vm.machine import BenchError, Machine, Result

PROJECT = Path(__file__).parents[2]
DROP_IN = "/etc/ipvsd/conf.d/bench.yaml"
UNIT_DROP_INS = "/run/systemd/system/ipvsd.service.d"
# The managed modules of the default profile on every kernel, with iptables of nf_tables.
MODULES = tuple(
    """
    ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh dummy nf_conntrack_netlink
    ip_set ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet ip_set_bitmap_port ip_set_hash_ip
    xt_set xt_comment xt_mark xt_conntrack xt_addrtype xt_physdev xt_ipvs ipt_REJECT ip6t_REJECT
    nf_conntrack xt_MASQUERADE nf_tables nft_compat nft_chain_nat br_netfilter
    xt_nat xt_tcpudp xt_statistic xt_recent xt_sctp xt_nfacct
    ip_vs_lc ip_vs_wlc ip_vs_lblc ip_vs_lblcr ip_vs_dh ip_vs_mh ip_vs_sed ip_vs_nq ip_vs_fo ip_vs_ovf
    """.split()
)
SOMETIMES = ("nft_counter", "ip_vs_twos")  # managed as well, on the kernels that have them
NETFILTER = "^(ip_vs|ip_set|nf_|nft_|nfnetlink|x_tables|xt_|ipt_|ip6t_|ip_tables|ip6_tables|iptable|ip6table)"
UNLOAD_IPVS = "modprobe -r $(ls /sys/module/ip_vs/holders)"  # the last one takes ip_vs with it
SYSCTLS = {
    "net.ipv4.ip_forward": "1", "net.ipv4.conf.default.forwarding": "1", "net.ipv4.vs.conntrack": "1",
    "net.ipv4.vs.expire_nodest_conn": "1", "net.ipv4.vs.expire_quiescent_template": "1",
    "net.bridge.bridge-nf-call-iptables": "1", "net.bridge.bridge-nf-call-ip6tables": "1",
    "net.netfilter.nf_conntrack_max": "131072",
}  # fmt: skip

# Records at its start whether everything that kube-proxy will need exists.
KUBELET = """[Unit]
Description=stand-in for kubelet

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cp /proc/modules /run/kubelet.modules; sysctl {keys} > /run/kubelet.sysctls; \\
    systemctl is-active ipvsd > /run/kubelet.ipvsd; true'

[Install]
WantedBy=multi-user.target
""".format(keys=" ".join(SYSCTLS))

FOUND = ("modules", "sysctls", "ipvsd")

# Log messages that need no announcement by a test: ipvsd's changes, and good states.
EXPECTED = (
    r"loaded module \S+( for \S+)?( with .+)? \(was unloaded\)",
    r"loaded \d+ modules: \S+",
    r"wrote \S+: '[^']*' \(was '[^']*'\)",
    r"\S+ is compliant again: ",
    r"ready: \d+ modules, \d+ sysctls compliant",
    r"configuration loaded, [0-9a-f]{12}",
    r"\S+ drifted and was repaired \d+ times; last changed (probably )?by ",
    r"watch backend: bpf$",
)

# Interfaces follow ip_forward. With many writes, a reconciliation observes them before their repair.
FOLLOWS = r"sysctl net\.ipv4\.conf\.(\*|default)\.forwarding: noncompliant: "


def repeated(few: int, many: int) -> int:
    """Return the number of attempts of a test: `many` in `make test-full`, which sets IPVSD_FULL."""
    return many if os.environ.get("IPVSD_FULL") else few


def package() -> Path:
    """Return the built package. Raises BenchError if there is not exactly one."""
    found = list((PROJECT / "dist").glob("ipvsd_*_all.deb"))
    if len(found) != 1:
        raise BenchError(f"there are {len(found)} packages in dist/ (run: make deb)")
    return found[0]


class Node:
    """A machine with ipvsd installed, and a stand-in for kubelet."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.pki = ""  # the directory with a client's certificate, while the daemon serves with TLS
        self.run = machine.run
        self.until = machine.until

    def install(self) -> Result:
        """Install the package like a person, beside a stand-in for kubelet."""
        self.machine.put(package().read_bytes(), "/root/ipvsd.deb")
        done = self.run("apt-get install -y --no-install-recommends /root/ipvsd.deb 2>&1")
        self.machine.put(KUBELET.encode(), "/etc/systemd/system/kubelet.service")
        self.run("systemctl enable kubelet.service")
        return done

    def note_boot(self) -> None:
        """Remember facts about the boot, before any test restarts anything."""
        self.found_by_kubelet = {name: self.run(f"cat /run/kubelet.{name}").out for name in FOUND}
        self.ready_at = int(self.show("ActiveEnterTimestampMonotonic"))
        self.kubelet_at = int(self.show("ExecMainStartTimestampMonotonic", "kubelet"))

    # --- reports ------------------------------------------------------------------------

    def show(self, name: str, unit: str = "ipvsd") -> str:
        """Return a property of a unit, as printed by `systemctl show`."""
        return self.run(f"systemctl show --value -p {name} {unit}").out.strip()

    def status_line(self) -> str:
        """Return the line that `systemctl status ipvsd` shows."""
        return self.show("StatusText")

    def status(self) -> dict[str, Any]:
        """Return the document of `ipvsd status`, or nothing if there is none."""
        found = self.run("cat /run/ipvsd/status.json", check=False)
        return dict(json.loads(found.out)) if found.code == 0 else {}

    def finding(self, name: str) -> Mapping[str, Any]:
        """Return the daemon's finding about a module or a sysctl, as soon as it is desired."""
        return self.until(lambda: self._findings().get(name), f"a finding about {name}")

    def _findings(self) -> Mapping[str, Mapping[str, Any]]:
        document = self.status()
        return {item["name"]: item for kind in ("modules", "sysctls") for item in document.get(kind, ())}

    def sources(self) -> Sequence[Mapping[str, Any]]:
        """Return the states of the daemon's event sources and its server."""
        return list(self.status()["sources"])

    def ipvs_answer(self) -> Mapping[str, Any]:
        """Return the daemon's result of the IPVS probe, as soon as there is one."""
        return self.until(lambda: self.status().get("ipvs", {}).get("up") and self.status()["ipvs"], "IPVS asked")

    def get(self, path: str) -> tuple[int, str]:
        """Return (status, body) of a page of the daemon, which it serves soon after READY=1."""
        scheme, context = ("https", _context(self.pki)) if self.pki else ("http", "context = None")
        script = (
            f"import ssl, urllib.request, urllib.error\n{context}\n"
            f"try: answer = urllib.request.urlopen('{scheme}://127.0.0.1:14787{path}', timeout=10, context=context)\n"
            "except urllib.error.HTTPError as error: answer = error\n"
            "print(answer.status, answer.read().decode())"
        )

        def answer() -> str:
            done = self.run(["python3", "-c", script], check=False)
            return "" if done.code else done.out

        code, _, body = self.until(answer, f"an answer for {path}").partition(" ")
        return int(code), body

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics, with its labels in the name."""
        lines = (line.rpartition(" ") for line in self.get("/metrics")[1].splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines if name}

    def journal(self, cursor: str = "") -> list[tuple[int, str]]:
        """Return (priority, message) of ipvsd's log entries, from a cursor on."""
        after = f"--after-cursor='{cursor}'" if cursor else "-b"
        lines = self.run(f"journalctl --sync; journalctl -q -t ipvsd -o json {after}").out.splitlines()
        entries = [json.loads(line) for line in lines]
        return [(int(entry["PRIORITY"]), str(entry["MESSAGE"])) for entry in entries]

    def entries(self, match: str) -> list[dict[str, Any]]:
        """Return all fields of ipvsd's matching log entries since boot."""
        lines = self.run(f"journalctl --sync; journalctl -q -b -t ipvsd -o json {match}").out.splitlines()
        return [json.loads(line) for line in lines]

    def history(self) -> list[dict[str, Any]]:
        """Return the last repairs, the oldest first."""
        return list(json.loads(self.run("ipvsd history --lines 200 --output json").out))

    def cursor(self) -> str:
        """Return the position of ipvsd's last line in the journal."""
        # Of ipvsd's entries, because --after-cursor skips the first entry that matches the other filters.
        shown = self.run("journalctl --sync; journalctl -q -t ipvsd -n 1 --show-cursor").out
        return shown.partition("cursor: ")[2].strip()

    # --- state --------------------------------------------------------------------------

    def live(self, name: str) -> bool:
        return self.run(f"cat /sys/module/{name}/initstate", check=False).out.strip() == "live"

    def schedulers(self) -> frozenset[str]:
        """Return the scheduler modules that this kernel has, loaded or not."""
        # ip_vs_pe_sip, with two more underscores, is not a scheduler.
        paths = self.run("cut -d: -f1 /lib/modules/$(uname -r)/modules.dep").out
        return frozenset(re.findall(r"/(ip_vs_[a-z]+)\.ko", paths)) - {"ip_vs_ftp"}

    def held(self) -> tuple[str, ...]:
        """Return the modules of the default profile on this kernel."""
        listed = self.run("cut -d: -f1 /lib/modules/$(uname -r)/modules.dep").out
        return (*MODULES, *(name for name in SOMETIMES if f"/{name}.ko" in listed))

    def ready_line(self) -> str:
        """Return the beginning of the status line of a node that complies with the default profile."""
        interfaces = 1  # net.ipv4.conf.*.forwarding counts as one
        return f"ready: {len(self.held())} modules, {len(SYSCTLS) + interfaces} sysctls compliant"

    def sysctl(self, key: str) -> str:
        return self.run(f"sysctl -n {key}", check=False).out.strip()

    def state(self) -> dict[str, Union[str, bool]]:
        modules = set(self.run("cut -d' ' -f1 /proc/modules").out.split())
        values = self.run(f"sysctl -n {' '.join(SYSCTLS)}", check=False).out.split("\n")
        return {**{name: name in modules for name in MODULES}, **dict(zip(SYSCTLS, values))}

    def right(self) -> bool:
        """Return whether all items of the default profile are compliant."""
        state = self.state()
        floor = int(SYSCTLS["net.netfilter.nf_conntrack_max"])
        return (
            all(state[name] for name in MODULES)
            and int(state.pop("net.netfilter.nf_conntrack_max") or 0) >= floor
            and all(state[key] == value for key, value in SYSCTLS.items() if key in state)
        )

    # --- operations ---------------------------------------------------------------------

    def start(self) -> None:
        """Start or restart the daemon, and wait until it has reported its state."""
        self.run("systemctl restart ipvsd")
        self.until(self.status, "status.json")

    def replaced(self, pid: str) -> None:
        """Wait until another process is the daemon and has reported its state."""
        self.until(lambda: self.show("MainPID") not in ("0", pid) and self.status(), "a new daemon")

    def configure(self, text: str) -> None:
        """Replace the test's drop-in, and wait until it is active."""
        self.machine.put(text.encode(), DROP_IN)
        shown = self.run("systemctl reload ipvsd; ipvsd config show").out
        self.until(lambda: f"# hash {self.status()['config']['hash']}\n" in shown, "the drop-in at work")

    @contextmanager
    def configured(self, text: str) -> Iterator[None]:
        """Use a drop-in while the context lasts."""
        self.configure(text)
        try:
            yield
        finally:
            self.run(f"rm -f {DROP_IN}; systemctl reload ipvsd")
            self.until(lambda: DROP_IN not in self.status()["config"]["files"], "the drop-in gone")

    @contextmanager
    def changed_unit(self, drop_in: str) -> Iterator[None]:
        """Run the daemon with a drop-in for its unit while the context lasts."""
        self.machine.put(drop_in.encode(), f"{UNIT_DROP_INS}/bench.conf")
        self.run("systemctl daemon-reload")
        self.start()
        try:
            yield
        finally:
            self.run(f"rm -r {UNIT_DROP_INS}; systemctl daemon-reload")
            self.start()

    @contextmanager
    def without(self, module: str) -> Iterator[None]:
        """Remove a module's file from the tree and its index, and unload the module."""
        path = self.run(f"modinfo -n {module}").out.strip()
        self.run(f"mv {path} /root/{module}.ko && depmod")
        try:
            # The daemon can use an older index for a moment, but not the file.
            self.until(lambda: self.run(f"rmmod {module}", check=False).code == 0 or None, f"{module} unloaded")
            yield
        finally:
            self.run(f"mv /root/{module}.ko {path} && depmod")
            self.until(lambda: self.live(module), f"{module} live again", 90)


def _context(pki: str) -> str:
    """Return lines of Python for the TLS context of a client with the certificate in this directory."""
    load = f"context.load_cert_chain('{pki}/client.crt', '{pki}/client.key')"
    return f"context = ssl.create_default_context(cafile='{pki}/ca.crt')\n{load}"


def emptied(node: Node) -> None:
    """Stop the daemon, and unload all modules of IPVS and connection tracking."""
    node.run("systemctl stop ipvsd keepalived nftables; nft flush ruleset; ipvsadm -C", check=False)
    unused = f"awk '$3 == 0 {{print $1}}' /proc/modules | grep -E '{NETFILTER}'"
    node.run(f"for round in 1 2 3 4 5 6 7 8; do {unused} | xargs -r -n1 rmmod; done", check=False)
    loaded = node.run("cut -d' ' -f1 /proc/modules").out.split()
    left = sorted({"ip_vs", "nf_conntrack", "nf_defrag_ipv6"} & set(loaded))
    assert left == [], node.run("cat /proc/modules").out


class Journal:
    """Fails a test with an unexpected line in ipvsd's log."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._cursor = node.cursor()
        self._patterns = list(EXPECTED)

    def expect(self, *patterns: str) -> None:
        """Allow lines that match one of these regular expressions."""
        self._patterns.extend(patterns)

    def lines(self) -> list[str]:
        """Return the messages since the test began."""
        return [message for _, message in self._node.journal(self._cursor)]

    def check(self) -> None:
        """Raise AssertionError for unexpected lines."""
        unexpected = [line for line in self.lines() if not any(re.match(want, line) for want in self._patterns)]
        assert not unexpected, "ipvsd logged what no test expected:\n" + "\n".join(unexpected)


def seconds(begun: float) -> str:
    """Return the time since `begun` (monotonic) as text."""
    return f"{time.monotonic() - begun:.1f} s"
