#!/bin/sh
# Inside the machine: the chains that kubelet 1.20 makes with the node's iptables (pkg/kubelet/kubelet_network_linux.go).
set -eu
for program in iptables ip6tables; do
    $program -w -t mangle -N KUBE-KUBELET-CANARY
    $program -w -t nat -N KUBE-MARK-DROP
    $program -w -t nat -A KUBE-MARK-DROP -j MARK --or-mark 0x8000
    $program -w -t filter -N KUBE-FIREWALL
    $program -w -t filter -A KUBE-FIREWALL -m comment --comment "dropping marked packets" \
        -m mark --mark 0x8000/0x8000 -j DROP
    $program -w -t filter -I INPUT -j KUBE-FIREWALL
    $program -w -t filter -I OUTPUT -j KUBE-FIREWALL
done
iptables -w -t filter -A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" \
    --dst 127.0.0.0/8 ! --src 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
