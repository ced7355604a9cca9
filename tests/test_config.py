"""The content of configuration files, and its errors. The form of every error: FILE:LINE: WHERE: WHAT (HINT)."""

from __future__ import annotations

import pytest

from ipvsd.config.schema import Config, ModuleSetting, SysctlSetting
from ipvsd.model.types import Exactly, OneOf, Policy, Within
from tests.configured import config, errors


def test_without_files_there_are_the_defaults() -> None:
    assert config() == Config(
        profiles=("kube-proxy-ipvs",),
        scheduler="rr",
        strict_arp=False,
        bridge_netfilter=True,
        interval=60.0,
        startup_strict=False,
        startup_limit=300.0,
        listen=(("127.0.0.1", 14787), ("::1", 14787)),
        modules={},
        sysctls={},
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n", "modules:\nsysctls: {}\nweb:\nstartup:\n"])
def test_a_file_that_says_nothing_changes_nothing(text: str) -> None:
    assert config(text) == Config()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("profiles: [lvs-full]", Config(profiles=("lvs-full",))),
        ("profiles: [kube-proxy-ipvs, lvs-full, lvs-full]", Config(profiles=("kube-proxy-ipvs", "lvs-full"))),
        ("profiles: []", Config(profiles=())),
        ("scheduler: wlc", Config(scheduler="wlc")),
        ("strictARP: true", Config(strict_arp=True)),
        ("bridgeNetfilter: False", Config(bridge_netfilter=False)),
        ("interval: 5m", Config(interval=300.0)),
        ("interval: 1500ms", Config(interval=1.5)),
        ("interval: 30", Config(interval=30.0)),
        ("startup: {mode: strict}", Config(startup_strict=True)),
        ("startup: {limit: 0.5h}", Config(startup_limit=1800.0)),
        ("web: {listen: []}", Config(listen=())),
        ('web: {listen: [":9"]}', Config(listen=(("", 9),))),
        ("web: {configFile: /a/web.yml, textfile: /b.prom}", Config(web_config="/a/web.yml", textfile="/b.prom")),
        ("web: {configFile: null, textfile: ~}", Config()),
        ('web: {listen: ["0.0.0.0:80", "[::]:65535"]}', Config(listen=(("0.0.0.0", 80), ("::", 65535)))),
        ("modules: {ip_vs_wlc: {required: false}}", Config(modules={"ip_vs_wlc": ModuleSetting("0.yaml:1", False)})),
        ("modules: {dummy: {}}", Config(modules={"dummy": ModuleSetting("0.yaml:1")})),
        ("modules: {dummy: true}", Config(modules={"dummy": ModuleSetting("0.yaml:1")})),
        ("modules:\n  dummy:\n", Config(modules={"dummy": ModuleSetting("0.yaml:2")})),
        ("modules: {ip_vs_sh: false}", Config(modules={"ip_vs_sh": ModuleSetting("0.yaml:1", dropped=True)})),
        ("modules: {iptable-backend: {anyOf: [nf_tables, ip-tables]}}",
         Config(modules={"iptable-backend": ModuleSetting("0.yaml:1", any_of=("nf_tables", "ip_tables"))})),
        ("modules: {ip-vs: {parameters: {bits: 20, on: true, off: FALSE}}}",
         Config(modules={"ip_vs": ModuleSetting("0.yaml:1", parameters={"bits": "20", "on": "Y", "off": "N"})})),
        ("profiles: none", Config(profiles=())),
        ("profiles: [none]", Config(profiles=())),
        ("kubeProxyVersion: null", Config()),
        ("modules: {snd-dummy: {}}", Config(modules={"snd_dummy": ModuleSetting("0.yaml:1")})),
    ],
)  # fmt: skip
def test_a_setting(text: str, expected: Config) -> None:
    assert config(text)._replace(origins={}) == expected


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("net.ipv4.ip_forward: 1", SysctlSetting("0.yaml:1", Exactly("1"))),
        ("net.ipv4.tcp_rmem: '4096 \t131072  6291456 '", SysctlSetting("0.yaml:1", Exactly("4096 131072 6291456"))),
        ("net.a.b: 0x1f", SysctlSetting("0.yaml:1", Exactly("0x1f"))),
        ("net.a.b: 010", SysctlSetting("0.yaml:1", Exactly("010"))),
        ("net.a.b: -1", SysctlSetting("0.yaml:1", Exactly("-1"))),
        ("net.a.b: 'true'", SysctlSetting("0.yaml:1", Exactly("true"))),
        ("net.a.b: {atLeast: 262144}", SysctlSetting("0.yaml:1", Within(262144))),
        ("net.a.b: {value: 5, policy: observe}", SysctlSetting("0.yaml:1", Exactly("5"), Policy.OBSERVE)),
        ("net.a.b: {value: 5, required: true}", SysctlSetting("0.yaml:1", Exactly("5"), required=True)),
        ("net.a.b: FALSE", SysctlSetting("0.yaml:1", dropped=True)),
        ("net.a.b: false", SysctlSetting("0.yaml:1", dropped=True)),
        ("net.ipv4.vs.conntrack: {policy: observe}", SysctlSetting("0.yaml:1", None, Policy.OBSERVE)),
        ("net.a.b: {atMost: -1}", SysctlSetting("0.yaml:1", Within(None, -1))),
        ("net.a.b: {atMost: 5}", SysctlSetting("0.yaml:1", Within(None, 5))),
        ("net.a.b: {atLeast: -1, atMost: 5}", SysctlSetting("0.yaml:1", Within(-1, 5))),
        ("net.a.b: {oneOf: [0, '2 3']}", SysctlSetting("0.yaml:1", OneOf(("0", "2 3")))),
        ("net.a.*.b: {value: 1, exclude: [x, 'y*']}", SysctlSetting("0.yaml:1", Exactly("1"), exclude=("x", "y*"))),
    ],
)
def test_a_sysctl(text: str, setting: SysctlSetting) -> None:
    assert list(config(f"sysctls: {{{text}}}").sysctls.values()) == [setting]


# --- several files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("scheduler: wlc\ninterval: 5s", "scheduler: sh", Config(scheduler="sh", interval=5.0)),
        ("profiles: [lvs-full]", "profiles: [kube-proxy-ipvs]", Config(profiles=("kube-proxy-ipvs",))),
        ("startup: {mode: strict}", "startup: {limit: 1s}", Config(startup_strict=True, startup_limit=1.0)),
    ],
    ids=["a scalar", "a list replaces", "a map merges"],
)
def test_a_later_file_changes_what_it_contains(first: str, second: str, expected: Config) -> None:
    assert config(first, second)._replace(origins={}) == expected


@pytest.mark.parametrize(
    ("first", "second", "setting"),
    [
        ("{required: false, parameters: {x: 1, y: 1}}", "{parameters: {y: 2}}",
         ModuleSetting("1.yaml:1", required=False, parameters={"x": "1", "y": "2"})),
        ("{anyOf: [b, c]}", "{required: false}", ModuleSetting("1.yaml:1", required=False, any_of=("b", "c"))),
        ("false", "{}", ModuleSetting("1.yaml:1")),
    ],
    ids=["parameters", "alternatives", "dropped before"],
)  # fmt: skip
def test_the_settings_of_one_module_merge(first: str, second: str, setting: ModuleSetting) -> None:
    found = config(f"modules: {{a: {first}, before: {{}}}}", f"modules: {{a: {second}, after: {{}}}}").modules
    assert (found["a"], set(found)) == (setting, {"a", "before", "after"})


@pytest.mark.parametrize(
    ("first", "second", "setting"),
    [
        ("{value: 1, required: true}", "{policy: observe}",
         SysctlSetting("1.yaml:1", Exactly("1"), Policy.OBSERVE, required=True)),
        ("{atLeast: 3}", "{atMost: 7}", SysctlSetting("1.yaml:1", Within(3, 7))),
        ("{value: 1}", "{atLeast: 7}", SysctlSetting("1.yaml:1", Within(7))),
        ("false", "1", SysctlSetting("1.yaml:1", Exactly("1"))),
        ("{value: 1, policy: observe}", "false", SysctlSetting("1.yaml:1", dropped=True)),
    ],
    ids=["the rest is kept", "two bounds of a range", "a range replaces a value", "dropped before", "dropped"],
)  # fmt: skip
def test_the_settings_of_one_sysctl_merge(first: str, second: str, setting: SysctlSetting) -> None:
    assert config(f"sysctls: {{net.a.b: {first}}}", f"sysctls: {{net.a.b: {second}}}").sysctls == {"net.a.b": setting}


def test_every_setting_has_its_origin() -> None:
    assert config("scheduler: sh\n\ninterval: 1s\n").origins == {"scheduler": "0.yaml:1", "interval": "0.yaml:3"}


# --- errors -----------------------------------------------------------------------------

ADDRESSES = '(such as 127.0.0.1:14787, [::1]:14787 or ":14787")'
PORTS = "(use a port from 1 to 65535)"
ONE_OF = "'value', 'oneOf' and a range cannot be combined (keep one)"
SUCH_AS = "(such as net.ipv4.ip_forward or net/ipv4/conf/eth0.100/rp_filter)"
ONE_LINE = "must be one line without control characters"
TEXT = "must be a string or an integer"
LETTERS = "(use at most 55 letters, digits, '_' and '-')"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("schedular: rr", "1: unknown key 'schedular' (did you mean 'scheduler'?)"),
        ("strictArp: true", "1: unknown key 'strictArp' (did you mean 'strictARP'?)"),
        ("startup: {mod: strict}", "1: startup: unknown key 'mod' (did you mean 'mode'?)"),
        ("web: {port: 80}", "1: web: unknown key 'port' (known: listen, configFile, textfile)"),
        ("modules: {a: {require: true}}", "1: modules.a: unknown key 'require' (did you mean 'required'?)"),
        ("sysctls: {net.a: {value: 1, atleast: 2}}",
         "1: sysctls.net.a: unknown key 'atleast' (did you mean 'atLeast'?)"),
        ("<<: {scheduler: rr}", "1: unknown key '<<' (known: "),
        ("scheduler: rr\nscheduler: sh", "2: duplicate key 'scheduler' (first on line 1)"),
        ("modules:\n  a: {}\n  a: {}", "3: modules: duplicate key 'a' (first on line 2)"),
        ("sysctls:\n  net.a: 1\n\n  net.a: 1", "4: sysctls: duplicate key 'net.a' (first on line 2)"),
        ("web:\n  listen: []\nweb: {}", "3: duplicate key 'web' (first on line 1)"),
        ("modules: {../x: {}}", f"1: modules.../x: invalid module name {LETTERS}"),
        ("modules: {ip_vs.ko: {}}", f"1: modules.ip_vs.ko: invalid module name {LETTERS}"),
        ('modules: {"a b": {}}', f"1: modules.a b: invalid module name {LETTERS}"),
        ('modules: {"": {}}', f"1: modules.: invalid module name {LETTERS}"),
        ("modules: {a: 1}", "1: modules.a: must be a mapping, not a number"),
        ("modules: {a: {required: 1}}", "1: modules.a.required: must be true or false, not a number"),
        ("modules: [a]", "1: modules: must be a mapping, not a list"),
        ("sysctls: {net/../../etc/x: 1}", f"1: sysctls.net/../../etc/x: invalid sysctl name {SUCH_AS}"),
        ("sysctls: {/etc/passwd: 1}", f"1: sysctls./etc/passwd: invalid sysctl name {SUCH_AS}"),
        ("sysctls: {/proc/sys/net/ipv4/ip_forward: 1}",
         "1: sysctls./proc/sys/net/ipv4/ip_forward: invalid sysctl name (remove the prefix: net/ipv4/ip_forward)"),
        ('sysctls: {"net.a\\x07b": 1}', f"1: sysctls.net.a\\x07b: invalid sysctl name {SUCH_AS}"),
        ("sysctls:\n  net.a: |\n    1\n    2\n", f"2: sysctls.net.a: {ONE_LINE}"),
        ('sysctls: {net.a: "1\\n2"}', f"1: sysctls.net.a: {ONE_LINE}"),
        ('sysctls: {net.a: "1\\02"}', f"1: sysctls.net.a: {ONE_LINE}"),
        ('sysctls: {net.a: "1\\e2"}', f"1: sysctls.net.a: {ONE_LINE}, of at most 4000 characters"),
        ("sysctls: {net.a: |\n  1\n  2\n}", "1: invalid YAML"),
        ("sysctls:\n  net.a: [40, 13]", f'2: sysctls.net.a: {TEXT}, not a list (quote the value: "40 13")'),
        ("sysctls: {net.a: true}", f"1: sysctls.net.a: {TEXT}, not a boolean (the kernel expects a number: 1)"),
        ("sysctls: {net.a: }", f"1: sysctls.net.a: {TEXT}, not nothing"),
        ("sysctls: {net.a: 2026-01-01}", f'1: sysctls.net.a: {TEXT}, not a timestamp (quote the value: "2026-01-01")'),
        ("sysctls: {net.a: {policy: observe}}", "1: sysctls.net.a: missing value (add 'value: ...'; no profile sets a"),
        ("sysctls: {net.a: {value: 1, atLeast: 1}}", f"1: sysctls.net.a: {ONE_OF}"),
        ("sysctls: {net.a: {value: 1, oneOf: [2]}}", f"1: sysctls.net.a: {ONE_OF}"),
        ("sysctls: {net.a: {atMost: 1, oneOf: [2]}}", f"1: sysctls.net.a: {ONE_OF}"),
        ("sysctls: {net.a: {atLeast: 2, atMost: 1}}", "1: sysctls.net.a: 'atLeast' is above 'atMost'"),
        ("sysctls: {net.a: {oneOf: []}}", "1: sysctls.net.a.oneOf: must be a list of values, not an empty list"),
        ("sysctls: {net.a: {oneOf: 1}}", "1: sysctls.net.a.oneOf: must be a list of values, not a number"),
        ("sysctls: {net.a: {value: 1, exclude: [x]}}", "1: sysctls.net.a: 'exclude' requires a pattern"),
        ("modules: {x: {anyOf: nf_tables}}", "1: modules.x.anyOf: must be a list of modules, not a string"),
        ("modules: {x: {anyOf: [a b]}}", "1: modules.x.anyOf: invalid module name 'a b'"),
        ("modules: {x: {anyOf: [a], parameters: {b: 1}}}", "1: modules.x: 'anyOf' and 'parameters' cannot be combined"),
        ("modules: {x: {parameters: 1}}", "1: modules.x.parameters: must be a mapping, not a number"),
        ("modules: {x: {parameters: {'a b': 1}}}", "1: modules.x.parameters.a b: invalid parameter name"),
        ("modules: {x: {parameters: {a: 'b c'}}}", "1: modules.x.parameters.a: must be one word"),
        ("modules: {x: {parameters: {a: [1]}}}", f"1: modules.x.parameters.a: {TEXT}, not a l"),
        ("sysctls: {net.a: {atLeast: many}}", "1: sysctls.net.a.atLeast: must be an integer, not a string"),
        ("sysctls: {net.a: {value: 1, policy: ignore}}",
         "1: sysctls.net.a.policy: must be one of enforce, observe, yield (not 'ignore')"),
        ("profiles: kube-proxy-ipvs", "1: profiles: must be a list, not a string (write [kube-proxy-ipvs])"),
        ("profiles: [none, lvs-full]",
         "1: profiles: 'none' cannot be combined with other profiles (remove 'none' or the other profiles)"),
        ("kubeProxyVersion: [1]", "1: kubeProxyVersion: must be a Kubernetes version, not a list (such as"),
        ("scheduler: ../x", "1: scheduler: must be a scheduler name, not '../x' (such as rr or sh)"),
        ("scheduler: [rr]", "1: scheduler: must be a scheduler name, not a list (such as rr or sh)"),
        ("strictARP: 1", "1: strictARP: must be true or false, not a number"),
        ("strictARP: 'true'", "1: strictARP: must be true or false, not a string"),
        ("- scheduler: rr", "1: must be a mapping, not a list (write KEY: VALUE, without '-' or '[' before it)"),
        ("sysctls:\n- net.a.b: 1", "2: sysctls: must be a mapping, not a list (write KEY: VALUE, without '-' or "),
        ("strictARP: !!bool perhaps", "1: invalid tag '!!bool' (remove the tag"),
        ("interval: soon", "1: interval: must be a duration, not a string (such as 60s, 5m)"),
        ("interval: -1", "1: interval: must be a duration, not '-1' (such as 60s, 5m)"),
        ("interval: 0.5s", "1: interval: must be between 1s and 86400s"),
        ("startup: strict", "1: startup: must be a mapping, not a string"),
        ("startup: {mode: hard}", "1: startup.mode: must be one of lenient, strict (not 'hard')"),
        ("web: {listen: 127.0.0.1:80}", "1: web.listen: must be a list, not a string"),
        ("web: {listen: [localhost:80]}", f"1: web.listen: invalid address 'localhost:80' {ADDRESSES}"),
        ('web: {listen: ["::1:80"]}', f"1: web.listen: invalid address '::1:80' {ADDRESSES}"),
        ('web: {listen: ["[::1:80"]}', f"1: web.listen: invalid address '[::1:80' {ADDRESSES}"),
        ('web: {listen: ["[127.0.0.1]:80"]}', f"1: web.listen: invalid address '[127.0.0.1]:80' {ADDRESSES}"),
        ("web: {listen: [127.0.0.1:0]}", f"1: web.listen: invalid port in '127.0.0.1:0' {PORTS}"),
        ("web: {listen: [127.0.0.1:65536]}", f"1: web.listen: invalid port in '127.0.0.1:65536' {PORTS}"),
        ("web: {configFile: web.yml}", "1: web.configFile: must be an absolute path, not 'web.yml' (such as /etc/"),
        ("web: {textfile: /a/b}", "1: web.textfile: must end in .prom (such as /var/lib/prometheus/node-exporter/"),
        ("web: {textfile: [/a.prom]}", "1: web.textfile: must be an absolute path, not a list"),
        ("text", "1: must be a mapping, not a string"),
        ("a: [1", "1: invalid YAML: "),
        ("modules: " + "[" * 1000, "1: the file is nested too deeply"),
    ],
)  # fmt: skip
def test_an_invalid_setting_is_rejected(text: str, error: str) -> None:
    found = errors(text)
    assert len(found) == 1
    assert found[0].startswith(f"0.yaml:{error}")


def test_all_errors_of_all_files_are_told_at_once() -> None:
    found = errors("schedular: rr\ninterval: soon\nstrictARP: 3", "web: [1]\n", "modules: {a b: 1}", "scheduler: [")
    places = ["0.yaml:1", "0.yaml:2", "0.yaml:3", "1.yaml:1", "2.yaml:1", "3.yaml:1"]
    assert [error.partition(": ")[0] for error in found] == places


def test_a_long_key_is_shortened() -> None:
    (error,) = errors(f"{'k' * 3000}: 1")
    assert len(error) < 300
