#!/bin/sh
# Inside the machine: sets and rules that kube-proxy writes since 1.26, and 1.20 does not. Leaves nothing behind.
# KUBE-IPVS-FILTER: kubernetes/kubernetes#108460; -m ipvs: #119791; nfacct, in iptables mode: #122812.
set -eu
nfacct add ct_state_invalid_dropped_pkts
both() {  # SUFFIX FAMILY ADDRESS
    ipset create "NEWER-IPS$1" hash:ip family "$2"
    ipset create "NEWER-LB$1" hash:ip,port family "$2"
    ipset create "NEWER-HEALTH$1" bitmap:port range 0-65535
    ipset add "NEWER-IPS$1" "$3"
    ipset add "NEWER-LB$1" "$3,tcp:80"
    ipset add "NEWER-HEALTH$1" 32000
    "ip$1tables-restore" --noflush --counters <<RULES
*filter
:NEWER-FILTER - [0:0]
:NEWER-OUT-FILTER - [0:0]
:NEWER-FORWARD - [0:0]
-A NEWER-FILTER -m comment --comment "health checks" -m set --match-set NEWER-HEALTH$1 dst -j ACCEPT
-A NEWER-FILTER -m set --match-set NEWER-LB$1 dst,dst -j RETURN
-A NEWER-FILTER -m conntrack --ctstate NEW -m set --match-set NEWER-IPS$1 dst -j REJECT
-A NEWER-OUT-FILTER -s $3 -m ipvs --vaddr $3 --vproto TCP --vport 80 -j DROP
-A NEWER-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
COMMIT
*nat
:NEWER-NAT - [0:0]
-A NEWER-NAT -m mark ! --mark 0x4000/0x4000 -j RETURN
-A NEWER-NAT -j MARK --xor-mark 0x4000
-A NEWER-NAT -m comment --comment "service traffic requiring SNAT" -j MASQUERADE --random-fully
COMMIT
RULES
    for chain in FILTER OUT-FILTER FORWARD; do
        "ip$1tables" -w -F "NEWER-$chain"
        "ip$1tables" -w -X "NEWER-$chain"
    done
    "ip$1tables" -w -t nat -F NEWER-NAT
    "ip$1tables" -w -t nat -X NEWER-NAT
    for set in IPS LB HEALTH; do ipset destroy "NEWER-$set$1"; done
}
both "" inet 192.0.2.99
both 6 inet6 2001:db8::99
nfacct delete ct_state_invalid_dropped_pkts
