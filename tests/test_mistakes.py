"""Common mistakes in a configuration: each is rejected, and the hint names the probable intention."""

from __future__ import annotations

import pytest

from ipvsd.config import spelling
from ipvsd.config.parser import ConfigError, parse
from ipvsd.config.profiles import PROFILES, SCHEDULERS
from ipvsd.config.schema import ModuleSetting
from ipvsd.config.spelling import known_sysctls
from ipvsd.sysctl import sysctl_names
from tests.configured import config, error, errors


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("profiles: [kube-proxy-ipsv]", "did you mean 'kube-proxy-ipvs'?"),
        ("profiles: [lvsfull]", "did you mean 'lvs-full'?"),
        ("startup: {mode: strct}", "did you mean 'strict'?"),
        ("sysctls: {net.ipv4.ip_forward: {policy: enforced}}", "did you mean 'enforce'?"),
        ("startup: {mode: on}", "not 'on'"),
        ("modules: {ip_vs: {parameters: {conn_tab_bit: 12}}}", "did you mean 'conn_tab_bits'?"),
        ("modules: {ip-vs: {parameters: {conn-tab-bits: 12}}}", "use letters, digits and '_'"),
        ("modules: {nf_conntrack: {parameters: {hash_size: 12}}}", "did you mean 'hashsize'?"),
    ],
)
def test_a_misspelt_value_or_parameter_is_refused_with_the_nearest(text: str, hint: str) -> None:
    assert error(text).endswith(f"({hint})")


@pytest.mark.parametrize("name", ["conn_tab_bits", "hashsize", "other"])
def test_a_parameter_that_resembles_none_of_the_module_is_accepted(name: str) -> None:
    parse([("ipvsd.yaml", f"modules: {{ip_vs: {{parameters: {{{name}: 12}}}}}}".encode())])


# --- schedulers -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_of_the_kernel_is_taken(name: str) -> None:
    assert config(f"scheduler: {name}").scheduler == name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("maglev", "mh"), ("ip_vs_lc", "lc"), ("ip_vs_maglev", "mh"), ("roundrobin", "rr"), ("round-robin", "rr"),
        ("weighted-round-robin", "wrr"), ("RR", "rr"), ("rrr", "rr"), ("leastconn", "lc"), ("least_connection", "lc"),
        ("sourcehash", "sh"), ("failover", "fo"), ("wlcc", "wlc"),
    ],
)  # fmt: skip
def test_a_scheduler_by_another_name_is_refused_with_its_own(typed: str, meant: str) -> None:
    found = error(f"interval: 5s\nscheduler: {typed}")
    assert found.startswith("0.yaml:2: scheduler: ")
    assert found.endswith(f"(did you mean {meant!r}?)")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("xyzzy", "unknown scheduler 'xyzzy' (known: rr, wrr, lc, "),
        ('""', "must be a scheduler name, not a string (kube-proxy uses rr for an empty string: write rr)"),
        *((typed, f"must be a scheduler name, not {what} (such as rr or sh)") for typed, what in {
            "true": "a boolean", "no": "a boolean", "null": "nothing", "10": "a number",
        }.items()),
    ],
)  # fmt: skip
def test_another_scheduler_is_refused_with_the_known_ones(typed: str, told: str) -> None:
    assert error(f"scheduler: {typed}").startswith(f"0.yaml:1: scheduler: {told}")


def test_a_scheduler_of_another_source_is_taken_if_its_module_is_named() -> None:
    made = config("scheduler: mine\nmodules: {ip_vs_mine: {}}")
    assert (made.scheduler, made.modules) == ("mine", {"ip_vs_mine": ModuleSetting("0.yaml:2")})


@pytest.mark.parametrize(("typed", "meant"), [("maglev", "mh"), ("rrr", "rr"), ("round_robin", "rr"), ("wr", "wrr")])
def test_the_module_of_a_scheduler_by_another_name_is_refused(typed: str, meant: str) -> None:
    found = error(f"modules: {{ip_vs_{typed}: {{}}}}")
    assert f"unknown module 'ip_vs_{typed}' (did you mean 'ip_vs_{meant}'?" in found
    assert config(f"modules: {{ip_vs_{typed}: {{required: false}}}}").modules


@pytest.mark.parametrize(
    ("value", "hint"),
    [("'off'", " (write 0)"), ("'Yes'", " (write 1)"), ("1.0", ""), ("08", ""), ("1_000", ""), ('""', ""), ("1;", "")],
)
@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "net.ipv4.conf.*.rp_filter", "net/ipv4/vs/conntrack"])
def test_a_value_that_the_kernel_does_not_read_as_a_number_is_rejected(key: str, value: str, hint: str) -> None:
    assert error(f"sysctls: {{{key}: {value}}}").endswith(hint)
    assert "must be a number, not" in error(f"sysctls: {{{key}: {{oneOf: [1, {value}]}}}}")


@pytest.mark.parametrize("text", ["0x1", "010", "-1", "'1'"])
def test_a_number_is_taken_as_the_kernel_reads_it(text: str) -> None:
    assert config(f"sysctls: {{net.ipv4.ip_forward: {text}}}").sysctls


def test_a_sysctl_that_may_be_no_number_takes_any_text() -> None:
    assert config("sysctls: {net.ipv4.vs.est_cpulist: 0-3, net.ipv4.tcp_congestion_control: bbr}").sysctls


# --- sysctls and modules ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("net.ipv4.ip_foward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forwrad", "net.ipv4.ip_forward"),
        ("net.ipv4.IP_FORWARD", "net.ipv4.ip_forward"),
        ("net.ipv4.ip.forward", "net.ipv4.ip_forward"),
        ("nett.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net.ipv5.ip_forward", "net.ipv4.ip_forward"),
        ("net.ipv4.vss.conntrack", "net.ipv4.vs.conntrack"),
        ("net.ipv4.vs.expire_nodest_con", "net.ipv4.vs.expire_nodest_conn"),
        ("net.netfilter.nf_contrack_max", "net.netfilter.nf_conntrack_max"),
        ("net.nf_contrack_max", "net.netfilter.nf_conntrack_max"),
        ("net.bridge.bridge_nf_call_iptables", "net.bridge.bridge-nf-call-iptables"),
        ("net.ipv4.conf.all.rpfilter", "net.ipv4.conf.all.rp_filter"),
        ("net.ipv4.conf.*.rp_fliter", "net.ipv4.conf.*.rp_filter"),
        ("net.ipv4.conf.eth0.arp_anounce", "net.ipv4.conf.eth0.arp_announce"),
        ("net.ipv6.conf.eth0.accept_ras", None),
        ("vm.swapiness", "vm.swappiness"),
        ("net.ipv4.conf.eth0.100.rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net/ipv4/conf/eth0/100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net.ipv6.conf.bond0.12.34.accept_ra", "net.ipv6.conf.bond0/12/34.accept_ra"),
        ("net.ipv4.neigh.eth0.100.gc_stale_time", "net.ipv4.neigh.eth0/100.gc_stale_time"),
        ("net.ipv4.conf.eth0.100.rp_fliter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net.ipv4.conf.eth*.100.rp_filter", "net.ipv4.conf.eth*/100.rp_filter"),
        ("net.ipv4.conf.eth0/100.rp_filter", None),
        ("net.ipv4.tcp_quite_new_here", None),
        ("net.ipv4.tcp_wmem2", None),
        ("net.ipv4.conf.nosuchlink.rp_filter", None),
        ("dev.mine.value", None),
    ],
)
def test_a_misspelt_sysctl_is_refused_and_one_that_may_exist_is_not(typed: str, meant: str | None) -> None:
    text = f"sysctls:\n  '{typed}': {{value: 1, required: true}}"
    if meant is None:
        assert len(config(text).sysctls) == 1
    else:
        name = sysctl_names.normalised(typed)
        told = f"sysctls.{name}: unknown sysctl (did you mean {meant}? If some kernels have the sysctl, set 'required"
        assert error(text).startswith(f"0.yaml:2: {told}")
        assert f"did you mean {meant}?" in error(f"sysctls: {{'{typed}': false}}")


def test_no_known_sysctl_is_treated_as_misspelt() -> None:
    known = known_sysctls()
    names = [f"{directory}.{leaf}".replace("*", "eth0") for directory, leaves in known.items() for leaf in leaves]
    names += [entry.key for profile in PROFILES.values() for entry in profile.sysctls]
    assert [name for name in names if spelling.sysctl(name)] == []


def test_a_name_that_resembles_a_known_one_is_accepted_if_it_is_not_required() -> None:
    text = "sysctls: {net.ipv4.ip_foward: {value: 1, required: false}}\nmodules: {br_netfiler: {required: false}}"
    assert set(config(text).sysctls) == {"net.ipv4.ip_foward"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("br_netfiler", "br_netfilter"), ("ipvs", "ip_vs"), ("nf-contrack", "nf_conntrack"), ("nf_tabels", "nf_tables")],
)
def test_a_misspelt_module_is_refused(typed: str, meant: str) -> None:
    found = error(f"modules: {{{typed}: {{}}}}")
    assert f"unknown module {typed.replace('-', '_')!r} (did you mean {meant!r}?" in found
    assert f"(did you mean {meant!r}?" in error(f"modules: {{either: {{anyOf: [dummy, {typed}]}}}}")


@pytest.mark.parametrize("name", ["ip_tables", "snd_dummy", "ip_vs_mine", "nf_conntrack_ipv4", "ip_set_hash_net"])
def test_a_module_that_is_known_or_like_none_is_taken(name: str) -> None:
    assert set(config(f"modules: {{{name}: {{}}}}").modules) == {name}


# --- booleans ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["off", "no", "on", "yes", "OFF", "No", "On", "YES"])
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("sysctls: {net.ipv4.ip_forward: WORD}", "sysctls.net.ipv4.ip_forward"),
        ("sysctls: {net.ipv4.ip_forward: {value: WORD}}", "sysctls.net.ipv4.ip_forward.value"),
        ("sysctls: {net.a.b: {oneOf: [WORD]}}", "sysctls.net.a.b.oneOf"),
        ("sysctls: {net.a.b: {value: 1, required: WORD}}", "sysctls.net.a.b.required"),
        ("sysctls: {net.a.b: {value: 1, guard: WORD}}", "sysctls.net.a.b.guard"),
        ("modules: {dummy: WORD}", "modules.dummy"),
        ("modules: {dummy: {required: WORD}}", "modules.dummy.required"),
        ("modules: {dummy: {parameters: {x: WORD}}}", "modules.dummy.parameters.x"),
        ("strictARP: WORD", "strictARP"),
        ("bridgeNetfilter: WORD", "bridgeNetfilter"),
    ],
)
def test_the_words_that_only_old_yaml_takes_for_truth_values_are_refused_everywhere(
    text: str, where: str, word: str
) -> None:
    found = error(text.replace("WORD", word))
    assert found.startswith(f"0.yaml:1: {where}: must be ")
    assert f"not {word!r} (" in found


# --- configurations of other programs ---------------------------------------------------

KUBE_PROXY = """apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
clusterCIDR: 10.0.0.0/8
conntrack: {maxPerCore: 32768, min: 262144}
ipvs:
  scheduler: wlc
  strictARP: true
"""


def test_a_pasted_configuration_of_kube_proxy_is_named_with_what_to_write_instead() -> None:
    assert error(KUBE_PROXY) == (
        "0.yaml:1: the file is kube-proxy's configuration, which ipvsd does not read (the equivalent is: "
        "profiles: [kube-proxy-ipvs]; scheduler: wlc; strictARP: true; "
        "sysctls: {net.netfilter.nf_conntrack_max: {atLeast: 262144}})"
    )


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("KubeletConfiguration", "kubelet's configuration"), ("ClusterConfiguration", "kubeadm's configuration"),
        ("ConfigMap", "a Kubernetes ConfigMap"), ("Config", "a kubeconfig"),
        ("DaemonSet", "a Kubernetes object (v1 DaemonSet)"),
    ],
)  # fmt: skip
def test_other_objects_of_kubernetes_are_named(kind: str, named: str) -> None:
    found = error(f"apiVersion: v1\nkind: {kind}\ndata: {{a: b}}\n")
    assert found.startswith(f"0.yaml:1: the file is {named}, which ipvsd does not read (")


def test_a_file_of_several_documents_of_kubernetes_is_named_too() -> None:
    first, second = errors(f"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n---\n{KUBE_PROXY}")
    assert first == "0.yaml:3: the file contains more than one document (keep one document)"
    assert second.startswith("0.yaml: the file contains kube-proxy's configuration, which ipvsd does not read")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sysctls: {net.ipv4.ip_forward: off}",
         "(the kernel expects a number: 0; use false if ipvsd must not manage the sysctl)"),
        ("ipvs: {scheduler: rr}", "use the top-level keys 'scheduler' and 'strictARP'"),
        ("mode: ipvs", "'profiles: [kube-proxy-ipvs]'"),
        ("ipvs-scheduler: rr", "use 'scheduler'"),
        ("kubernetesVersion: v1.30.0", "use 'kubeProxyVersion'"),
        ("conntrack: {min: 1}", "net.netfilter.nf_conntrack_max"),
        ("strict_arp: true", "did you mean 'strictARP'?"),
    ],
)  # fmt: skip
def test_the_hint_names_what_to_write_instead(text: str, hint: str) -> None:
    assert hint in error(text)


# --- characters -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("scheduler\uff1a rr", "FF1A (FULLWIDTH COLON) (replace the character with ':')"),
        ("scheduler: \u201crr\u201d", "201C (LEFT DOUBLE QUOTATION MARK) (replace the character with '\"')"),
        ("scheduler: \u2018rr\u2019", '2018 (LEFT SINGLE QUOTATION MARK) (replace the character with "\'")'),
        ("scheduler:\u00a0rr", "00A0 (NO-BREAK SPACE) (replace the character with a space)"),
        ("scheduler: r\u200br", "200B (ZERO WIDTH SPACE) (remove the character)"),
        ("sysctls: {net.ipv4.ip_forward: \uff11}", "FF11 (FULLWIDTH DIGIT ONE) (replace the character with '1')"),
        ("profiles: [lvs\u2013full]", "2013 (EN DASH) (replace the character with '-')"),
        ("\ufeffscheduler: rr", "FEFF (ZERO WIDTH NO-BREAK SPACE) (remove the character)"),
        ("scheduler: r\x07r", "0007 in YAML"),
    ],
)
def test_a_confusable_character_is_reported_with_its_line(text: str, told: str) -> None:
    assert error(f"# first \u2018line\u2019\n{text}\n").startswith(f"0.yaml:2: invalid character U+{told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "s\u0441heduler: rr",
            "1: unknown key 's\u0441heduler' (U+0441 (CYRILLIC SMALL LETTER ES) is invalid in a key",
        ),
        ("startup:\n\tmode: strict", "2: invalid YAML: a tab (use spaces)"),
        ("startup:\n\u3000mode: strict", "2: invalid character U+3000 (IDEOGRAPHIC SPACE) (replace the character"),
        ("scheduler:rr", "1: "),
    ],
)
def test_other_characters_that_look_right_are_reported_with_their_line(text: str, told: str) -> None:
    assert error(text).startswith(f"0.yaml:{told}")


def test_a_byte_order_mark_is_taken_and_any_character_in_comments_and_values() -> None:
    text = "\ufeffscheduler: sh  # \u201csource hashing\u201d\uff1a\nsysctls: {kernel.domainname: b\u00fccher}\n"
    assert config(text).scheduler == "sh"


def test_utf_16_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse([("0.yaml", "scheduler: rr\n".encode("utf-16"))])
    assert caught.value.errors == ("0.yaml:1: invalid UTF-8 (the file seems to be UTF-16: save the file as UTF-8)",)


# --- versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "version"),
    [
        ("1.30", (1, 30)), ('"1.30"', (1, 30)), ("v1.30.2", (1, 30)), ("1.20", (1, 20)), ("1.11", (1, 11)),
        ("v1.36.0-rc.1+k3s1", (1, 36)),
    ],
)  # fmt: skip
def test_a_version_is_accepted_in_each_spelling(typed: str, version: tuple[int, int]) -> None:
    assert config(f"kubeProxyVersion: {typed}").kube_proxy == version


OUT, BAD = "must be between 1.11 and ", "must be a Kubernetes version, not "


@pytest.mark.parametrize(
    ("typed", "what", "told"),
    [
        ('"1.8"', OUT, "not 1.8; kube-proxy's IPVS mode has been stable since 1.11 (did you mean 1.18 or 1.28 or"),
        ("1.3", OUT, "not 1.3; kube-proxy's IPVS mode has been stable since 1.11 (did you mean 1.30 or 1.13 or 1.23"),
        ("1.300", OUT, "not 1.300 (did you mean 1.30?)"),
        ("1.99", OUT, "not 1.99 (such as "),
        ("2.30", OUT, "not 2.30 (such as "),
        ("0.30", OUT, "not 0.30; kube-proxy's"),
        ("v1.0.0", OUT, "not 1.0; kube-proxy's"),
        ("30", BAD, 'did you mean "1.30"?'), ("130", BAD, ""), ("'1,30'", BAD, ""), ("latest", BAD, ""),
    ],
)  # fmt: skip
def test_a_version_that_cannot_be_is_refused(typed: str, what: str, told: str) -> None:
    found = error(f"kubeProxyVersion: {typed}")
    assert found.startswith(f"0.yaml:1: kubeProxyVersion: {what}")
    assert told in found
