"""The keys of the configuration: the field of each, its default, and its reader for YAML."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

import math
import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from ipvsd.config import profiles, yaml_tree
from ipvsd.config.yaml_tree import Node, Scalar
from ipvsd.model.types import NOTHING, Exactly, OneOf, Policy, Want, Within
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import sysctl_names, values

MAX_UNITS = 15  # the kernel compares all of them at each write to a guarded sysctl
_EXAMPLES = {"500ms": 0.5, "60s": 60.0, "5m": 300.0}
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_BOOLEANS = {"true": True, "false": False}
SWITCHES = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}  # as people write them for a sysctl
_YAML_1_1_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}  # booleans in YAML 1.1, and texts in YAML 1.2

# Plausible versions of Kubernetes: from the first with a stable IPVS mode to some years ahead.
OLDEST, NEWEST = (1, 11), (1, 59)


class SettingError(Exception):
    """The value is invalid.

    `problem` is the reason, `hint` the remedy, and `suggestion` the value that the hint names.
    """

    def __init__(self, problem: str, hint: str = "", suggestion: Optional[str] = None) -> None:
        super().__init__(problem)
        self.problem, self.hint, self.suggestion = problem, hint, suggestion


def kind(node: Node) -> str:
    """Return the name of a value's type for people."""
    names = {"bool": "a boolean", "null": "nothing", "int": "a number", "float": "a number", "str": "a string"}
    if isinstance(node, Scalar):
        return names.get(node.kind, f"a {node.kind}")
    return "a list" if isinstance(node, yaml_tree.Sequence) else "a mapping"


def shown(text: str, quote: bool = True) -> str:
    """Return a text of a file for people: escaped, and limited in length."""
    text = text if len(text) <= 60 else text[:57] + "..."
    if quote:
        return repr(text)
    return text if text.isascii() and text.isprintable() else repr(text)[1:-1]


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def parse_boolean(node: Node, alternative: str = "") -> Optional[bool]:
    """Return the boolean value of a node, or None if it is not a boolean.

    Raises SettingError for words that only YAML 1.1 treats as booleans. `alternative` is another possible meaning.
    """
    if not isinstance(node, Scalar) or node.kind != "bool":
        return None
    text = node.text.lower()
    if text in _YAML_1_1_BOOLEANS:
        hint = f"write {str(_YAML_1_1_BOOLEANS[text]).lower()}"
        raise SettingError(f"must be true or false, not {node.text!r}", f"{hint}{alternative.format(node.text)}")
    return _BOOLEANS[text]


def is_false(node: Node) -> bool:
    """Return whether a node is the literal word false."""
    return isinstance(node, Scalar) and node.kind == "bool" and node.text.lower() == "false"


def _boolean(node: Node) -> bool:
    """Read _true_ or _false_."""
    value = parse_boolean(node)
    if value is None:
        raise SettingError(f"must be true or false, not {kind(node)}")
    return value


def _empty(node: Node) -> str:
    return "an empty list" if isinstance(node, yaml_tree.Sequence) else kind(node)


def _names(node: Node) -> tuple[str, ...]:
    """Read a list of module names."""
    if not isinstance(node, yaml_tree.Sequence) or not node.items:
        raise SettingError(f"must be a list of modules, not {_empty(node)}", "such as [nf_tables, ip_tables]")
    names = tuple(map(_module_name, node.items))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SettingError(f"duplicate module {twice!r}", "'-' and '_' are equivalent")
    return names


def _module_name(node: Node) -> str:
    # PyYAML's composer returns null, 1 and no as texts as well, but they are not names.
    if not isinstance(node, Scalar) or node.kind != "str":
        raise SettingError(f"every item must be a module name, not {kind(node)}", "such as [nf_tables, ip_tables]")
    name = kernel_names.module_name(node.text)
    if name is None:
        raise SettingError(f"invalid module name {shown(node.text)}")
    return name


def _values(node: Node) -> tuple[str, ...]:
    """Read a list of values."""
    if not isinstance(node, yaml_tree.Sequence) or not node.items:
        raise SettingError(f"must be a list of values, not {_empty(node)}", "such as [0, 2]", "0")
    return tuple(value(item) for item in node.items)


def _patterns(node: Node) -> tuple[str, ...]:
    """Read a list of patterns."""
    if not isinstance(node, yaml_tree.Sequence):
        raise SettingError(f"must be a list, not {kind(node)}", 'such as [all, "veth*"]')
    return tuple(map(_pattern, node.items))


def _pattern(node: Node) -> str:
    """Return a part that a wildcard must not match: a name or a pattern that sysctl.d(5) can express."""
    if not isinstance(node, Scalar) or node.kind not in ("str", "int", "float"):
        raise SettingError(f"every item must be a name or a pattern, not {kind(node)}", 'such as [all, "veth*"]')
    found = sysctl_names.pattern_of_part(node.text)
    if found is None or not sysctl_names.writable(f"x{found}"):
        hint = "write a dot in a name as '.', not as '/'" if "/" in node.text else 'such as [all, "veth*"]'
        raise SettingError(f"invalid name or pattern {shown(node.text)}", hint)
    return found


def _units(node: Node) -> tuple[str, ...]:
    """Read a list of units, NAME.service, NAME.scope or NAME.slice, at most {MAX_UNITS}."""
    if not isinstance(node, yaml_tree.Sequence):
        raise SettingError(f"must be a list of units, not {kind(node)}", "such as [kubelet.service]")
    for item in node.items:
        if not re.match(r"[A-Za-z0-9:_.@\\-]{1,240}\.(service|scope|slice)\Z", _text(item)):
            raise SettingError(f"invalid unit {shown(_text(item))}", "use NAME.service, NAME.scope or NAME.slice")
    if len(node.items) > MAX_UNITS:
        raise SettingError(f"must not contain more than {MAX_UNITS} units", "use a slice for several units")
    return tuple(_text(item) for item in node.items)


def _integer(node: Node) -> int:
    """Read an integer.

    As the kernel reads it, 010 is 8.
    """
    number = values.integer(_text(node))
    if number is None:
        shown_value = shown(_text(node)) if kind(node) == "a number" else kind(node)
        raise SettingError(f"must be an integer, not {shown_value}")
    return number


def _count(node: Node) -> int:
    """Read a number from _1_ to _1000000_."""
    number = _integer(node)
    if not 1 <= number <= 1_000_000:
        raise SettingError("must be between 1 and 1000000")
    return number


# The first paragraph of a reader's docstring, in scdoc(5), is a part of ipvsd.yaml(5) ('make tables'). Names in braces
# are those of this module and of the reader.
Reader = Callable[[Node], object]


class _Choice:
    """Read {known:or}."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self.known = known

    def __call__(self, node: Node) -> Any:
        if _text(node) not in self.known:
            raise SettingError(f"must be one of {', '.join(self.known)}", f"not {shown(_text(node))}")
        return self.known[_text(node)]


class _Duration:
    """Read a duration from {minimum} to {maximum}."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def __call__(self, node: Node) -> float:
        # Without a leading 0, because some YAML parsers read 010 as 8.
        match = re.match(r"((?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?)(ms|s|m|h|)\Z", _text(node))
        if not match:
            examples = [text for text, seconds in _EXAMPLES.items() if self.minimum <= seconds <= self.maximum]
            what = shown(_text(node)) if kind(node) == "a number" else kind(node)
            raise SettingError(f"must be a duration, not {what}", f"such as {', '.join(examples)}")
        # `dump` writes microseconds exactly, but the factor of a unit is not always exact.
        seconds = round(float(match[1]) * _UNITS[match[2]], 6)
        if not self.minimum <= seconds <= self.maximum:
            raise SettingError(f"must be between {self.minimum:g}s and {self.maximum:g}s")
        return seconds


def value(node: Node) -> str:
    """Read a string or a number, on one line, at most 4000 characters.

    Return it as written in the source. The kernel, not YAML, decides the meaning of 010 or 0x1f.
    """
    if not isinstance(node, Scalar) or node.kind not in ("str", "int", "float"):
        raise _no_value(node)
    if any(character in node.text for character in "\n\r\0"):
        raise SettingError("must be one line without control characters")
    text = sysctl_names.canonical(node.text)
    if not text.isprintable() or len(text) > 4000:
        raise SettingError("must be one line without control characters, of at most 4000 characters")
    return text


def _no_value(node: Node) -> SettingError:
    text, items = _text(node), node.items if isinstance(node, yaml_tree.Sequence) else ()
    shown_value = repr(text) if kind(node) == "a boolean" and text.lower() in _YAML_1_1_BOOLEANS else kind(node)
    hint, suggestion = "write the value", None
    if kind(node) == "a boolean":
        number = SWITCHES.get(text.lower())
        hint, suggestion = ("", None) if number is None else (f"the kernel expects a number: {number}", str(number))
    elif items or (isinstance(node, Scalar) and node.kind != "null"):
        suggestion = sysctl_names.canonical(" ".join(map(_text, items)) or text)
        plain = suggestion.isprintable() and not set(suggestion) & set('"\\')
        hint = f'quote the value: "{suggestion}"' if suggestion and len(suggestion) < 60 and plain else hint
    return SettingError(f"must be a string or an integer, not {shown_value}", hint, suggestion)


def parameter(node: Node) -> str:
    """Return the value of a module's parameter: one word, because it becomes a part of a line of modprobe.d(5)."""
    on = parse_boolean(node, ', or quote the value: "{}"')
    try:
        text = value(node) if on is None else "YN"[not on]
    except SettingError as bad:
        raise bad if bad.suggestion is None or _is_word(bad.suggestion) else SettingError(bad.problem) from None
    if not _is_word(text):
        raise SettingError("must be one word", "use letters, digits and punctuation, without spaces or quotes")
    return text


def _is_word(text: str) -> bool:
    return re.match(r"[!-~]{1,200}\Z", text) is not None and not set(text) & set("\"'#\\")


def _scheduler(node: Node) -> str:
    """Read {profiles.SCHEDULERS:or}.

    `parser` checks the name after reading all files, because another scheduler can be listed as a module.
    """
    text = _text(node)
    if kind(node) == "a string" and re.match(r"[a-z0-9_]{1,15}\Z", text):  # IP_VS_SCHEDNAME_MAXLEN is 16, with its NUL
        return text
    hint = "such as rr or sh"
    if isinstance(node, Scalar) and not text:
        hint = "kube-proxy uses rr for an empty string: write rr"
    elif text:
        from ipvsd.config import spelling

        suggestion = spelling.scheduler(text)
        hint = f"did you mean {suggestion!r}?" if suggestion else hint
    shown_value = shown(text) if text and kind(node) == "a string" else kind(node)
    raise SettingError(f"must be a scheduler name, not {shown_value}", hint)


def _version(node: Node) -> Optional[tuple[int, int]]:
    """Read a Kubernetes version from {OLDEST} to {NEWEST}, such as _"1.30"_, or _null_."""
    if isinstance(node, Scalar) and node.kind == "null":
        return None
    number = "(0|[1-9][0-9]{0,2})"
    match = re.match(rf"v?{number}\.{number}(?:\.{number}(?:[-+][0-9A-Za-z.+-]{{1,40}})?)?\Z", _text(node))
    if not match:
        whole = re.match(r"v?(?:1\.)?([1-9][0-9])\Z", _text(node))
        likely = whole is not None and OLDEST <= (1, int(whole[1])) <= NEWEST
        hint = f'did you mean "1.{whole[1]}"?' if whole and likely else 'such as "1.30"'
        raise SettingError(f"must be a Kubernetes version, not {kind(node)}", hint)
    version = int(match[1]), int(match[2])
    if OLDEST <= version <= NEWEST:
        return version
    low, high = ("{}.{}".format(*bound) for bound in (OLDEST, NEWEST))
    shown_version, minor = f"{match[1]}.{match[2]}", match[2]
    # A template engine drops the last 0 of a number, and people repeat or omit a digit.
    closest = [f"1.{digits}" for digits in (f"{minor}0", minor[:2], f"1{minor}", f"2{minor}", f"3{minor}")]
    known = [text for text in dict.fromkeys(closest) if OLDEST <= (1, int(text[2:])) <= NEWEST]
    hint = f'such as "{high if version > NEWEST else "1.30"}"'
    if known and match[1] == "1":
        hint = f"did you mean {' or '.join(known)}?"
    why = "; kube-proxy's IPVS mode has been stable since 1.11" if version < OLDEST else ""
    raise SettingError(f"must be between {low} and {high}, not {shown_version}{why}", hint)


def _profiles(node: Node) -> tuple[str, ...]:
    """Read a list of {profiles.PROFILES:and}."""
    if _text(node) == "none":
        return ()
    if not isinstance(node, yaml_tree.Sequence):
        text = _text(node)
        hint = f"write [{text}]" if text in profiles.PROFILES else "write [] for none"
        raise SettingError(f"must be a list, not {kind(node)}", hint)
    read = _Choice({name: name for name in (*profiles.PROFILES, "none")})
    chosen = dict.fromkeys(read(item) for item in node.items)
    if "none" in chosen and len(chosen) > 1:
        raise SettingError("'none' cannot be combined with other profiles", "remove 'none' or the other profiles")
    return tuple(name for name in chosen if name != "none")


def _listen(node: Node) -> tuple[tuple[str, int], ...]:
    """Read a list of ADDRESS:PORT, an IPv6 address in brackets, or :PORT, port 1 to 65535."""
    if not isinstance(node, yaml_tree.Sequence):
        raise SettingError(f"must be a list, not {kind(node)}", 'such as ["127.0.0.1:14787"], or [] for none')
    return tuple(dict.fromkeys(_address(_text(item)) for item in node.items))


def _address(text: str) -> tuple[str, int]:
    """Return the address and the port. An empty address means all addresses."""
    match = re.match(r"([0-9.]+|\[[0-9A-Fa-f.:]+\]|):([0-9]{1,5})\Z", text)
    address = _ip_address(match[1]) if match else None
    if match is None or address is None:
        raise SettingError(f"invalid address {shown(text)}", 'such as 127.0.0.1:14787, [::1]:14787 or ":14787"')
    if not 1 <= int(match[2]) <= 65535:
        raise SettingError(f"invalid port in {shown(text)}", "use a port from 1 to 65535")
    return address, int(match[2])


def _ip_address(text: str) -> Optional[str]:
    """Return an address in its canonical form, an empty text unchanged, or None if it is not valid."""
    if not text:
        return text
    import ipaddress

    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return str(address) if (address.version == 6) == text.startswith("[") else None


class _Path:
    """Read an absolute path{rule}, or _null_."""

    def __init__(self, ending: str = "") -> None:
        self.ending = ending
        self.rule = f" that ends in _{ending}_" if ending else ""

    def __call__(self, node: Node) -> Optional[str]:
        if isinstance(node, Scalar) and node.kind == "null":
            return None
        text = _text(node)
        example = f"such as {'/var/lib/prometheus/node-exporter/ipvsd.prom' if self.ending else '/etc/ipvsd/web.yml'}"
        if kind(node) != "a string" or not re.match(r"/[!-~]{1,1000}\Z", text) or text.endswith("/"):
            raise SettingError(f"must be an absolute path, not {shown(text) if text else kind(node)}", example)
        if not text.endswith(self.ending):
            raise SettingError(f"must end in {self.ending}", example)
        return text


class ModuleSetting(NamedTuple):
    """A user's settings of a module. None means unset."""

    origin: str
    required: Optional[bool] = None
    dropped: bool = False
    any_of: tuple[str, ...] = ()  # modules of which one suffices
    # A map of names to values. Default: none.
    #
    # The parameters that ipvsd passes to the kernel when it loads the module. If the module is live with a different
    # value, ipvsd writes the parameter if the kernel allows it. Otherwise, ipvsd shows the parameter as
    # _needs_module_reload_, because ipvsd never unloads a module. A parameter that is not compliant degrades the
    # node. Setting parameters for a module from a profile does not change whether the module is required.
    parameters: Mapping[str, str] = NOTHING


class SysctlSetting(NamedTuple):
    """A user's settings of a sysctl, or of all that match a pattern. None means unset."""

    origin: str
    want: Optional[Want] = None
    policy: Optional[Policy] = None
    required: Optional[bool] = None
    dropped: bool = False
    exclude: tuple[str, ...] = ()  # parts that the wildcards of a pattern must not match
    guard: Optional[bool] = None


class Config(NamedTuple):
    """The whole configuration, with defaults. Times are in seconds."""

    profiles: tuple[str, ...] = ("kube-proxy-ipvs",)
    kube_proxy: Optional[tuple[int, int]] = None  # its version, if known
    scheduler: str = "rr"
    strict_arp: bool = False
    bridge_netfilter: bool = True
    interval: float = 60.0
    startup_strict: bool = False
    startup_limit: float = 300.0
    contention_repairs: int = 20  # more repairs of one sysctl within the window are contention
    contention_window: float = 60.0
    contention_quiet: float = 300.0  # contention ends after this time without drift
    guard_allow: tuple[str, ...] = ()  # units that may write guarded sysctls
    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 14787), ("::1", 14787))
    web_config: Optional[str] = None  # a file for TLS and authentication
    textfile: Optional[str] = None  # a file for node_exporter
    # A map of names to settings. Default: none.
    #
    # Adds modules to those of the profiles, or overrides them. A name has 1 to 55 characters: A-Z, a-z, 0-9, \_ and
    # -. The characters \_ and - are equivalent.
    #
    # *NAME: {}* and *NAME: true* load the module. *NAME: false* removes the module from the desired state.
    #
    # ipvsd does not unload a module that it does not manage.
    modules: Mapping[str, ModuleSetting] = NOTHING
    # A map of names to values or settings. Default: none.
    #
    # Adds sysctls to those of the profiles, or overrides them. Settings that a file omits keep the value from the
    # profile or from an earlier file.
    #
    # *KEY: VALUE* is short for *KEY: {value: VALUE}*.
    #
    # With *KEY: false*, ipvsd does not manage the sysctl; the value in the kernel does not change.
    sysctls: Mapping[str, SysctlSetting] = NOTHING
    origins: Mapping[str, str] = NOTHING  # FILE:LINE of plain settings


# By key: the field of Config, and the reader. The comments are the text of ipvsd.yaml(5), in scdoc(5). A first
# paragraph that begins with "Default:" follows the values that the reader accepts ('make tables').
SETTINGS: Mapping[str, tuple[str, Reader]] = {
    # The built-in profiles to start from. ipvsd combines several profiles. _[]_ and _none_ select no profile. See
    # *PROFILES*.
    "profiles": ("profiles", _profiles),
    # The kube-proxy version, if you know it. kube-proxy 1.27 and later has no fixed list of modules, so
    # *kube-proxy-ipvs* requires ip_vs_rr, ip_vs_wrr or ip_vs_sh only if *scheduler* selects it. The profile includes
    # ip_set_hash_ip for 1.26 and later, and xt_ipvs for 1.29 and later. For 1.35 and later, ipvsd prints a note about
    # the deprecation of IPVS mode. _null_ includes the modules of every version.
    "kubeProxyVersion": ("kube_proxy", _version),
    # kube-proxy's scheduler (*ipvs.scheduler*). With the _kube-proxy-ipvs_ profile, ipvsd requires the ip_vs_NAME
    # module. Without this profile, the key has no effect. ipvsd accepts any other scheduler name of 1 to 15
    # characters (a-z, 0-9 and \_) if *modules* contains its module: _modules: {ip_vs_NAME: {}}_.
    "scheduler": ("scheduler", _scheduler),
    # kube-proxy's strict ARP setting (*ipvs.strictARP*). With _kube-proxy-ipvs_, _true_ sets
    # net.ipv4.conf.all.arp_ignore = 1 and net.ipv4.conf.all.arp_announce = 2. With _false_, ipvsd manages neither of
    # them and does not reset them.
    "strictARP": ("strict_arp", _boolean),
    # With the kube-proxy profiles, load the br_netfilter module and set net.bridge.bridge-nf-call-iptables and
    # net.bridge.bridge-nf-call-ip6tables to 1. These items are optional. Some network plugins require the sysctls to
    # be 0. With _false_, ipvsd does not manage these items.
    "bridgeNetfilter": ("bridge_netfilter", _boolean),
    # The resync interval. The resync detects every change that no event reported. The interval is also the maximum
    # back-off after failures. Under ipvsd.service, ipvsd reconciles at intervals of at most half of *WatchdogSec=*,
    # which is 60 s by default.
    "interval": ("interval", _Duration(1.0, 86400.0)),
}
# The maps of settings, by their key.
GROUPS: Mapping[str, Mapping[str, tuple[str, Reader]]] = {
    "startup": {
        # Determines when ipvsd sends *READY=1* to systemd, for which kubelet waits. _lenient_: after the first
        # reconciliation, regardless of the result. _strict_: when every required item is compliant, or after
        # *startup.limit*. See STARTING BEFORE KUBELET in *ipvsd*(8).
        "mode": ("startup_strict", _Choice({"lenient": False, "strict": True})),
        # The maximum delay of a strict start.
        "limit": ("startup_limit", _Duration(0.0, 86400.0)),
    },
    "contention": {
        # If ipvsd repairs a sysctl more often than this within *contention.window*, the sysctl is contended: another
        # program also writes it. ipvsd logs the name of the program once. It then writes the sysctl only once per
        # resync, or not at all with the _yield_ policy. See DRIFT in *ipvsd*(8).
        "repairs": ("contention_repairs", _count),
        # See *contention.repairs*.
        "window": ("contention_window", _Duration(1.0, 86400.0)),
        # If a contended sysctl stays compliant for this time, the contention ends.
        "quiet": ("contention_quiet", _Duration(1.0, 86400.0)),
    },
    "guard": {
        # These units, and all processes in control groups under theirs, can write guarded sysctls. ipvsd identifies a
        # unit by its control group. systemd creates the control group before the first process of the unit, and ipvsd
        # receives an event immediately. If *ipvsd status* does not name the writing process, as is the case before
        # Linux 6.1, the kernel also refuses writes from control groups under the unit's control group.
        "allow": ("guard_allow", _units),
    },
    "web": {
        # The addresses of the HTTP endpoints. _:PORT_ means all addresses of the node, IPv4 and IPv6. An empty list
        # disables the server. Host names are not supported. Sockets from systemd (ipvsd.socket) replace this list.
        #
        # Without *web.configFile*, the server has neither TLS nor authentication. On an address other than loopback,
        # anyone who can reach the address can then read the endpoints. A website can also read them through a browser
        # that can reach the address.
        "listen": ("listen", _listen),
        # A file with TLS and authentication for the HTTP endpoints, in the format of the Prometheus exporter toolkit;
        # see *WEB CONFIGURATION FILE*. ipvsd uses a changed file, certificate or key without a restart.
        "configFile": ("web_config", _Path()),
        # A file for the textfile collector of Prometheus' node_exporter. ipvsd replaces it atomically after each
        # reconciliation, with the text of /metrics. It does not create the directory. The sandbox of ipvsd.service
        # has to permit it: _ReadWritePaths=_ in a drop-in. ipvsd removes the file when it stops.
        "textfile": ("textfile", _Path(".prom")),
    },
}
MODULE: Mapping[str, Reader] = {
    # Default: the value of the profile that includes the module, otherwise _true_.
    #
    # Without the module, the node is _failed_ if this is _true_, and _degraded_ if it is _false_.
    "required": _boolean,
    # Default: none.
    #
    # Alternatives; one live module is enough. NAME is then only the label under which ipvsd shows the group. If none
    # of the alternatives is live, ipvsd loads the first one that this kernel can load. If that load fails, ipvsd
    # tries another alternative on the next attempt.
    "anyOf": _names,
}
SYSCTL: Mapping[str, Reader] = {
    # The only compliant value. ipvsd compares values as the kernel parses them. White space is normalised. For
    # example, 0x1f equals 31, 010 equals 8, and 8080,8081 equals 8080-8081. Leading zeros of a mask are ignored.
    #
    # For a numeric sysctl, ipvsd rejects a value that the kernel does not accept as a number: 08 is not an octal
    # number. Quote a list of numbers, and write it in the kernel's format.
    "value": value,
    # The minimum. ipvsd raises a lower value to the minimum and does not change a larger one. This key cannot be
    # combined with *value* or *oneOf*. It applies only to sysctls that contain a single number. If the sysctl
    # contains anything else, ipvsd does not write it.
    "atLeast": _integer,
    # The maximum. ipvsd lowers a larger value to the maximum and does not change a lower one. Together with
    # *atLeast*, it defines a range.
    #
    # If a profile defines a range, each bound that you do not set keeps the profile's value. A maximum below the
    # profile's minimum is an error, unless *atLeast* is also set. If the profile's minimum exceeds the configured
    # maximum only because of the number of CPUs, the maximum takes effect.
    "atMost": _integer,
    # Each of these values is compliant. ipvsd writes the first one. This key cannot be combined with *value*,
    # *atLeast* or *atMost*.
    "oneOf": _values,
    # Default: none. Only if KEY is a pattern.
    #
    # The wildcards of KEY do not match these names: _[all, default, "veth\*"]_. Here, a dot is part of the name, not
    # a separator: _eth0.100_.
    "exclude": _patterns,
    # Default: the policy of the profile, which is _enforce_.
    #
    # _enforce_ repairs drift. _observe_ reports drift and never writes. _yield_ repairs drift, but if the sysctl is
    # contended, ipvsd leaves the sysctl to the other program until the configuration is reloaded.
    "policy": _Choice({policy.value: policy for policy in Policy}),
    # Default: _false_.
    #
    # With _true_, the kernel refuses all writes by other programs while the daemon is running. The writer receives
    # EPERM. This works only if *ipvsd status* shows the watch backend bpf; otherwise ipvsd prints a note.
    #
    # *Use this with care.* Programs that cannot write a sysctl can fail: *kube-proxy exits*, and *ipvsd apply* also
    # fails. A pod can set the sysctl in its own network namespace. There is one exception: if the _detail_ of the
    # _sysctl_bpf_ source in *ipvsd status --output json* states that it cannot distinguish network namespaces, the
    # guard applies to all namespaces. *guard.allow* names the units that can still write.
    "guard": _boolean,
    # Default: the value of the profile, otherwise _false_.
    #
    # If _true_, the node is _failed_ while the sysctl is not compliant or does not exist. If _false_, a value that is
    # not compliant degrades the node, and a missing sysctl has no effect.
    "required": _boolean,
}

WANTS = ("value", "at_least", "at_most", "one_of")  # alternatives, except for both bounds


def merge_want(fields: Mapping[str, Any], before: Optional[Want]) -> Optional[Want]:
    """Merge a value with the earlier one. The bounds of a range are combined. Raises SettingError."""
    if isinstance(before, Within) and set(fields) <= {"at_least", "at_most"}:
        bounds = {"at_least": before.floor, "at_most": before.ceiling}
        fields = {**{name: bound for name, bound in bounds.items() if bound is not None}, **fields}
    if len(fields) > 1 and set(fields) != {"at_least", "at_most"}:
        raise SettingError("'value', 'oneOf' and a range cannot be combined", "keep one")
    if fields.get("at_least", -math.inf) > fields.get("at_most", math.inf):
        raise SettingError("'atLeast' is above 'atMost'")
    if "value" in fields:
        return Exactly(fields["value"])
    if "one_of" in fields:
        return OneOf(fields["one_of"])
    return Within(fields.get("at_least"), fields.get("at_most")) if fields else None


def hint_for_unmanaged(node: Node) -> str:
    """Return the hint for a user who may want ipvsd to leave a sysctl alone, or an empty text."""
    off = kind(node) == "a boolean" and SWITCHES.get(_text(node).lower()) == 0
    return "use false if ipvsd must not manage the sysctl" if off or kind(node) == "nothing" else ""


def check_suggestions(name: str, read: Reader) -> Reader:
    """Return a reader for a sysctl's value without suggestions that the kernel refuses."""

    def fit(node: Node) -> object:
        try:
            return read(node)
        except SettingError as bad:
            if bad.suggestion is None or values.find_invalid_number(name, Exactly(bad.suggestion)) is None:
                raise
            raise SettingError(bad.problem) from None

    return fit
