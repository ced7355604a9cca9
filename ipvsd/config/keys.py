"""The keys of the configuration in YAML: the field of each, its reader, and its text in ipvsd.yaml(5)."""

from __future__ import annotations

from collections.abc import Mapping

from ipvsd.config.value_readers import (
    AbsolutePath,
    Choice,
    Duration,
    Reader,
    read_addresses,
    read_boolean,
    read_count,
    read_integer,
    read_names,
    read_patterns,
    read_profiles,
    read_scheduler,
    read_units,
    read_value,
    read_values,
    read_version,
)
from ipvsd.model.types import Policy

# By key: the field of Config, and the reader. The comments are the text of ipvsd.yaml(5), in scdoc(5). A first
# paragraph that begins with "Default:" follows the values that the reader accepts ('make tables').
SETTINGS: Mapping[str, tuple[str, Reader]] = {
    # The built-in profiles to start from. ipvsd combines several profiles. _[]_ and _none_ select no profile. See
    # *PROFILES*.
    "profiles": ("profiles", read_profiles),
    # The kube-proxy version, if you know it. kube-proxy 1.27 and later has no fixed list of modules, so
    # *kube-proxy-ipvs* requires ip_vs_rr, ip_vs_wrr or ip_vs_sh only if *scheduler* selects it. The profile includes
    # ip_set_hash_ip for 1.26 and later, and xt_ipvs for 1.29 and later. For 1.35 and later, ipvsd prints a note about
    # the deprecation of IPVS mode. _null_ includes the modules of every version.
    "kubeProxyVersion": ("kube_proxy", read_version),
    # kube-proxy's scheduler (*ipvs.scheduler*). With the _kube-proxy-ipvs_ profile, ipvsd requires the ip_vs_NAME
    # module. Without this profile, the key has no effect. ipvsd accepts any other scheduler name of 1 to 15
    # characters (a-z, 0-9 and \_) if *modules* contains its module: _modules: {ip_vs_NAME: {}}_.
    "scheduler": ("scheduler", read_scheduler),
    # kube-proxy's strict ARP setting (*ipvs.strictARP*). With _kube-proxy-ipvs_, _true_ sets
    # net.ipv4.conf.all.arp_ignore = 1 and net.ipv4.conf.all.arp_announce = 2. With _false_, ipvsd manages neither of
    # them and does not reset them.
    "strictARP": ("strict_arp", read_boolean),
    # With the kube-proxy profiles, load the br_netfilter module and set net.bridge.bridge-nf-call-iptables and
    # net.bridge.bridge-nf-call-ip6tables to 1. These items are optional. Some network plugins require the sysctls to
    # be 0. With _false_, ipvsd does not manage these items.
    "bridgeNetfilter": ("bridge_netfilter", read_boolean),
    # The resync interval. The resync detects every change that no event reported. The interval is also the maximum
    # back-off after failures. Under ipvsd.service, ipvsd reconciles at intervals of at most half of *WatchdogSec=*,
    # which is 60 s by default.
    "interval": ("interval", Duration(1.0, 86400.0)),
}
# The maps of settings, by their key.
GROUPS: Mapping[str, Mapping[str, tuple[str, Reader]]] = {
    "startup": {
        # Determines when ipvsd sends *READY=1* to systemd, for which kubelet waits. _lenient_: after the first
        # reconciliation, regardless of the result. _strict_: when every required item is compliant, or after
        # *startup.limit*. See STARTING BEFORE KUBELET in *ipvsd*(8).
        "mode": ("startup_strict", Choice({"lenient": False, "strict": True})),
        # The maximum delay of a strict start.
        "limit": ("startup_limit", Duration(0.0, 86400.0)),
    },
    "contention": {
        # If ipvsd repairs a sysctl more often than this within *contention.window*, the sysctl is contended: another
        # program also writes it. ipvsd logs the name of the program once. It then writes the sysctl only once per
        # resync, or not at all with the _yield_ policy. See DRIFT in *ipvsd*(8).
        "repairs": ("contention_repairs", read_count),
        # See *contention.repairs*.
        "window": ("contention_window", Duration(1.0, 86400.0)),
        # If a contended sysctl stays compliant for this time, the contention ends.
        "quiet": ("contention_quiet", Duration(1.0, 86400.0)),
    },
    "guard": {
        # These units, and all processes in control groups under theirs, can write guarded sysctls. ipvsd identifies a
        # unit by its control group. systemd creates the control group before the first process of the unit, and ipvsd
        # receives an event immediately. If *ipvsd status* does not name the writing process, as is the case before
        # Linux 6.1, the kernel also refuses writes from control groups under the unit's control group.
        "allow": ("guard_allow", read_units),
    },
    "web": {
        # The addresses of the HTTP endpoints. _:PORT_ means all addresses of the node, IPv4 and IPv6. An empty list
        # disables the server. Host names are not supported. Sockets from systemd (ipvsd.socket) replace this list.
        #
        # Without *web.configFile*, the server has neither TLS nor authentication. On an address other than loopback,
        # anyone who can reach the address can then read the endpoints. A website can also read them through a browser
        # that can reach the address.
        "listen": ("listen", read_addresses),
        # A file with TLS and authentication for the HTTP endpoints, in the format of the Prometheus exporter toolkit;
        # see *WEB CONFIGURATION FILE*. ipvsd uses a changed file, certificate or key without a restart.
        "configFile": ("web_config", AbsolutePath()),
        # A file for the textfile collector of Prometheus' node_exporter. ipvsd replaces it atomically after each
        # reconciliation, with the text of /metrics. It does not create the directory. The sandbox of ipvsd.service
        # has to permit it: _ReadWritePaths=_ in a drop-in. ipvsd removes the file when it stops.
        "textfile": ("textfile", AbsolutePath(".prom")),
    },
}
MODULE: Mapping[str, Reader] = {
    # Default: the value of the profile that includes the module, otherwise _true_.
    #
    # Without the module, the node is _failed_ if this is _true_, and _degraded_ if it is _false_.
    "required": read_boolean,
    # Default: none.
    #
    # Alternatives; one live module is enough. NAME is then only the label under which ipvsd shows the group. If none
    # of the alternatives is live, ipvsd loads the first one that this kernel can load. If that load fails, ipvsd
    # tries another alternative on the next attempt.
    "anyOf": read_names,
}
SYSCTL: Mapping[str, Reader] = {
    # The only compliant value. ipvsd compares values as the kernel parses them. White space is normalised. For
    # example, 0x1f equals 31, 010 equals 8, and 8080,8081 equals 8080-8081. Leading zeros of a mask are ignored.
    #
    # For a numeric sysctl, ipvsd rejects a value that the kernel does not accept as a number: 08 is not an octal
    # number. Quote a list of numbers, and write it in the kernel's format.
    "value": read_value,
    # The minimum. ipvsd raises a lower value to the minimum and does not change a larger one. This key cannot be
    # combined with *value* or *oneOf*. It applies only to sysctls that contain a single number. If the sysctl
    # contains anything else, ipvsd does not write it.
    "atLeast": read_integer,
    # The maximum. ipvsd lowers a larger value to the maximum and does not change a lower one. Together with
    # *atLeast*, it defines a range.
    #
    # If a profile defines a range, each bound that you do not set keeps the profile's value. A maximum below the
    # profile's minimum is an error, unless *atLeast* is also set. If the profile's minimum exceeds the configured
    # maximum only because of the number of CPUs, the maximum takes effect.
    "atMost": read_integer,
    # Each of these values is compliant. ipvsd writes the first one. This key cannot be combined with *value*,
    # *atLeast* or *atMost*.
    "oneOf": read_values,
    # Default: none. Only if KEY is a pattern.
    #
    # The wildcards of KEY do not match these names: _[all, default, "veth\*"]_. Here, a dot is part of the name, not
    # a separator: _eth0.100_.
    "exclude": read_patterns,
    # Default: the policy of the profile, which is _enforce_.
    #
    # _enforce_ repairs drift. _observe_ reports drift and never writes. _yield_ repairs drift, but if the sysctl is
    # contended, ipvsd leaves the sysctl to the other program until the configuration is reloaded.
    "policy": Choice({policy.value: policy for policy in Policy}),
    # Default: _false_.
    #
    # With _true_, the kernel refuses all writes by other programs while the daemon is running. The writer receives
    # EPERM. This works only if *ipvsd status* shows the watch backend bpf; otherwise ipvsd prints a note.
    #
    # *Use this with care.* Programs that cannot write a sysctl can fail: *kube-proxy exits*, and *ipvsd apply* also
    # fails. A pod can set the sysctl in its own network namespace. There is one exception: if the _detail_ of the
    # _sysctl_bpf_ source in *ipvsd status --output json* states that it cannot distinguish network namespaces, the
    # guard applies to all namespaces. *guard.allow* names the units that can still write.
    "guard": read_boolean,
    # Default: the value of the profile, otherwise _false_.
    #
    # If _true_, the node is _failed_ while the sysctl is not compliant or does not exist. If _false_, a value that is
    # not compliant degrades the node, and a missing sysctl has no effect.
    "required": read_boolean,
}
