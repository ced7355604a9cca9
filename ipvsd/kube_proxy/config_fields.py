"""The fields and options of kube-proxy as data, with the versions in which they exist.

Fields: staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go of Kubernetes 1.20 to 1.37, with ClientConnection from
component-base/config/v1alpha1/types.go and Logging from component-base/logs/api/v1/types.go of the same version.
Options: cmd/kube-proxy/app/server.go and options.go. An older version has the fields and options of 1.20, and a newer
one those of 1.37.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from typing import NamedTuple

from ipvsd.config.profiles import Version

OLDEST, NEWEST = (1, 20), (1, 37)  # versions whose types were read
_NEVER = (9, 0)

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"


class Type(enum.Enum):
    """The type of a field in Go, with its name for people."""

    BOOLEAN = "true or false"
    INTEGER = "an integer"
    UNSIGNED = "an integer that is not negative"
    FLOAT = "a number"
    STRING = "a string"
    DURATION = "a duration"
    DURATION_OR_NULL = "a duration or null"  # a pointer
    DURATION_OR_NUMBER = "a duration or a number of nanoseconds"
    STRINGS = "a list of strings"
    SWITCHES = "a map of booleans"
    SECTION = "a map"
    ANY = "any value"


class Field(NamedTuple):
    """A field with its path. It exists from version `since`, and before version `before`."""

    path: str
    type: Type
    since: Version = (0, 0)
    before: Version = _NEVER

    def exists(self, version: Version) -> bool:
        return self.since <= version < self.before


def _fields(kind: Type, paths: str, since: int = 0, before: int = 0) -> list[Field]:
    """Return fields that exist from Kubernetes 1.`since` on, and before 1.`before`."""
    return [Field(path, kind, (1, since), (1, before) if before else _NEVER) for path in paths.split()]


_ALL = (
    *_fields(Type.STRING, "apiVersion kind"),
    *_fields(Type.SWITCHES, "featureGates"),
    *_fields(
        Type.STRING,
        "bindAddress healthzBindAddress metricsBindAddress clusterCIDR hostnameOverride mode portRange "
        "showHiddenMetricsForVersion detectLocalMode",
    ),
    *_fields(Type.BOOLEAN, "bindAddressHardFail enableProfiling"),
    *_fields(Type.INTEGER, "oomScoreAdj"),
    *_fields(Type.DURATION, "configSyncPeriod"),
    *_fields(Type.STRINGS, "nodePortAddresses"),
    *_fields(Type.SECTION, "clientConnection"),
    *_fields(
        Type.STRING, "clientConnection.kubeconfig clientConnection.acceptContentTypes clientConnection.contentType"
    ),
    *_fields(Type.FLOAT, "clientConnection.qps"),
    *_fields(Type.INTEGER, "clientConnection.burst"),
    *_fields(Type.SECTION, "iptables"),
    *_fields(Type.INTEGER, "iptables.masqueradeBit"),
    *_fields(Type.BOOLEAN, "iptables.masqueradeAll"),
    *_fields(Type.BOOLEAN, "iptables.localhostNodePorts", since=26),
    *_fields(Type.DURATION, "iptables.syncPeriod iptables.minSyncPeriod"),
    *_fields(Type.SECTION, "ipvs"),
    *_fields(Type.DURATION, "ipvs.syncPeriod ipvs.minSyncPeriod ipvs.tcpTimeout ipvs.tcpFinTimeout ipvs.udpTimeout"),
    *_fields(Type.STRING, "ipvs.scheduler"),
    *_fields(Type.STRINGS, "ipvs.excludeCIDRs"),
    *_fields(Type.BOOLEAN, "ipvs.strictARP"),
    *_fields(Type.SECTION, "nftables", since=29),
    *_fields(Type.INTEGER, "nftables.masqueradeBit", since=29),
    *_fields(Type.BOOLEAN, "nftables.masqueradeAll", since=29),
    *_fields(Type.DURATION, "nftables.syncPeriod nftables.minSyncPeriod", since=29),
    *_fields(Type.SECTION, "conntrack"),
    *_fields(Type.INTEGER, "conntrack.maxPerCore conntrack.min"),
    *_fields(Type.DURATION_OR_NULL, "conntrack.tcpEstablishedTimeout conntrack.tcpCloseWaitTimeout"),
    *_fields(Type.BOOLEAN, "conntrack.tcpBeLiberal", since=29),
    *_fields(Type.DURATION, "conntrack.udpTimeout conntrack.udpStreamTimeout", since=29),
    *_fields(Type.SECTION, "winkernel"),
    *_fields(Type.STRING, "winkernel.networkName winkernel.sourceVip"),
    *_fields(Type.BOOLEAN, "winkernel.enableDSR"),
    *_fields(Type.STRING, "winkernel.rootHnsEndpointName", since=24),
    *_fields(Type.BOOLEAN, "winkernel.forwardHealthCheckVip", since=24),
    *_fields(Type.SECTION, "detectLocal", since=24),
    *_fields(Type.STRING, "detectLocal.bridgeInterface detectLocal.interfaceNamePrefix", since=24),
    *_fields(Type.SECTION, "logging", since=28),
    *_fields(Type.STRING, "logging.format", since=28),
    *_fields(Type.DURATION_OR_NUMBER, "logging.flushFrequency", since=28),
    *_fields(Type.UNSIGNED, "logging.verbosity", since=28),
    *_fields(Type.ANY, "logging.vmodule", since=28),
    *_fields(Type.SECTION, "logging.options logging.options.json", since=28),
    *_fields(Type.SECTION, "logging.options.text", since=30),
    *_fields(Type.BOOLEAN, "logging.options.json.splitStream", since=28),
    *_fields(Type.ANY, "logging.options.json.infoBufferSize", since=28),
    *_fields(Type.BOOLEAN, "logging.options.text.splitStream", since=30),
    *_fields(Type.ANY, "logging.options.text.infoBufferSize", since=30),
    *_fields(Type.BOOLEAN, "windowsRunAsService", since=31),
    # Removed fields. Those before 1.26 are in the types of the preceding versions.
    *_fields(Type.DURATION, "udpIdleTimeout", before=26),
    *_fields(Type.INTEGER, "conntrack.max", before=18),
    *_fields(Type.STRING, "resourceContainer", before=16),
    *_fields(Type.STRING, "featureGatesString", before=10),
)  # fmt: skip

FIELDS: Mapping[str, Field] = {field.path: field for field in _ALL}

# The replacement of a removed field.
REPLACEMENTS: Mapping[str, str] = {"conntrack.max": "use conntrack.maxPerCore and conntrack.min"}


@functools.lru_cache(maxsize=8)
def fields_of(section: str, version: Version) -> Mapping[str, Field]:
    """Return the fields of a section by their names. The section of top-level fields is empty."""
    prefix = f"{section}." if section else ""
    return {
        path[len(prefix) :]: field
        for path, field in FIELDS.items()
        if path.startswith(prefix) and "." not in path[len(prefix) :] and field.exists(version)
    }


class Option(NamedTuple):
    """An option of the command line. `path` is the field with the same meaning, or empty.

    `beside_config` says that the option has an effect even if --config selects a file.
    """

    name: str
    type: Type
    path: str = ""
    beside_config: bool = False
    since: Version = (0, 0)
    before: Version = _NEVER

    def exists(self, version: Version) -> bool:
        return self.since <= version < self.before


_BY_PATH = """
bind-address=bindAddress bind-address-hard-fail=bindAddressHardFail cluster-cidr=clusterCIDR
config-sync-period=configSyncPeriod conntrack-max-per-core=conntrack.maxPerCore conntrack-min=conntrack.min
conntrack-tcp-timeout-close-wait=conntrack.tcpCloseWaitTimeout
conntrack-tcp-timeout-established=conntrack.tcpEstablishedTimeout conntrack-tcp-be-liberal=conntrack.tcpBeLiberal
conntrack-udp-timeout=conntrack.udpTimeout conntrack-udp-timeout-stream=conntrack.udpStreamTimeout
detect-local-mode=detectLocalMode feature-gates=featureGates healthz-bind-address=healthzBindAddress
iptables-localhost-nodeports=iptables.localhostNodePorts iptables-masquerade-bit=iptables.masqueradeBit
iptables-min-sync-period=iptables.minSyncPeriod iptables-sync-period=iptables.syncPeriod
ipvs-exclude-cidrs=ipvs.excludeCIDRs ipvs-min-sync-period=ipvs.minSyncPeriod ipvs-scheduler=ipvs.scheduler
ipvs-strict-arp=ipvs.strictARP ipvs-sync-period=ipvs.syncPeriod ipvs-tcp-timeout=ipvs.tcpTimeout
ipvs-tcpfin-timeout=ipvs.tcpFinTimeout ipvs-udp-timeout=ipvs.udpTimeout kube-api-burst=clientConnection.burst
kube-api-content-type=clientConnection.contentType kube-api-qps=clientConnection.qps
kubeconfig=clientConnection.kubeconfig masquerade-all=iptables.masqueradeAll metrics-bind-address=metricsBindAddress
nodeport-addresses=nodePortAddresses oom-score-adj=oomScoreAdj pod-bridge-interface=detectLocal.bridgeInterface
pod-interface-name-prefix=detectLocal.interfaceNamePrefix profiling=enableProfiling proxy-mode=mode
proxy-port-range=portRange show-hidden-metrics-for-version=showHiddenMetricsForVersion udp-timeout=udpIdleTimeout
"""


def _options() -> list[Option]:
    found = []
    for pair in _BY_PATH.split():
        name, _, path = pair.partition("=")
        field = FIELDS[path]
        found.append(Option(name, field.type, path, since=field.since, before=field.before))
    # In effect beside --config: Options.Complete copies the logging options and the name of the host.
    texts = "config hostname-override master write-config-to boot-id-file machine-id-file".split()
    found += [Option(name, Type.STRING, beside_config=True) for name in texts]
    others = "cleanup version help v vmodule log-flush-frequency logging-format".split()
    found += [Option(name, Type.ANY, beside_config=True) for name in others]
    found.append(Option("init-only", Type.BOOLEAN, beside_config=True, since=(1, 29)))
    formats = "json-info-buffer-size json-split-stream text-info-buffer-size text-split-stream".split()
    found += [Option(f"log-{name}", Type.ANY, beside_config=True, since=(1, 28)) for name in formats]
    # Removed with klog's own options in 1.26 (KEP-2845).
    removed = (
        "add-dir-header alsologtostderr log-backtrace-at log-dir log-file log-file-max-size logtostderr one-output "
        "skip-headers skip-log-headers stderrthreshold"
    ).split()
    found += [Option(name, Type.ANY, beside_config=True, before=(1, 26)) for name in removed]
    found += [Option("healthz-port", Type.INTEGER), Option("metrics-port", Type.INTEGER)]
    # Removed before 1.20 in favour of --cleanup and of the operating system.
    before_1_20 = ("cleanup-ipvs", "cleanup-iptables", "resource-container")
    return [*found, *(Option(name, Type.ANY, before=(1, 17)) for name in before_1_20)]


OPTIONS: Mapping[str, Option] = {option.name: option for option in _options()}
# Options without a value, to which a value must be attached with '='.
SWITCH_OPTIONS = frozenset(
    {
        *(option.name for option in OPTIONS.values() if option.type is Type.BOOLEAN),
        *"cleanup version help alsologtostderr logtostderr one-output skip-headers skip-log-headers".split(),
        *"add-dir-header cleanup-ipvs cleanup-iptables log-json-split-stream log-text-split-stream".split(),
    }
)

# Modes of kube-proxy on Linux (pkg/proxy/apis/config/types.go and validation.go).
MODES: Mapping[str, tuple[Version, Version]] = {
    "iptables": ((0, 0), _NEVER),
    "ipvs": ((0, 0), _NEVER),
    "nftables": ((1, 29), _NEVER),
    "userspace": ((0, 0), (1, 26)),
}
NFTABLES_BY_DEFAULT = (1, 31)  # before, the mode requires featureGates.NFTablesProxyMode
# Schedulers that kube-proxy before 1.27 accepts (validateIPVSSchedulerMethod).
SCHEDULERS_BEFORE_1_27 = "rr wrr lc wlc lblc lblcr sh dh sed nq".split()
LOCAL_MODES: Mapping[str, Version] = {
    "ClusterCIDR": (0, 0),
    "NodeCIDR": (0, 0),
    "BridgeInterface": (1, 24),
    "InterfaceNamePrefix": (1, 24),
}
