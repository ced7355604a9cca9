#!/bin/sh
# Inside the machine: a node with two pods on a bridge, and two others outside, as a network plugin would have it.
set -eu
ip link add cni0 type bridge
ip addr add 10.244.0.1/24 dev cni0
ip addr add fd00:244::1/64 dev cni0 nodad
ip link set cni0 up
host() {  # NAME NETWORK4 NETWORK6 NUMBER BRIDGE: a network namespace with a link to the node, or to a bridge on it
    ip netns add "$1"
    ip link add "$1" type veth peer name eth0 netns "$1"
    if [ -n "${5:-}" ]; then
        ip link set "$1" master "$5"
        bridge link set dev "$1" hairpin on
    else
        ip addr add "$2.1/24" dev "$1"
        ip addr add "$3::1/64" dev "$1" nodad
    fi
    ip link set "$1" up
    ip -n "$1" link set lo up
    ip -n "$1" addr add "$2.$4/24" dev eth0
    ip -n "$1" addr add "$3::$4/64" dev eth0 nodad
    ip -n "$1" link set eth0 up
    ip -n "$1" route add default via "$2.1"
    ip -n "$1" -6 route add default via "$3::1"
}
host pod1 10.244.0 fd00:244 11 cni0
host pod2 10.244.0 fd00:244 12 cni0
host client 10.1.0 fd00:1 21
host stranger 10.1.1 fd00:11 22
# Where there is no route at all, a local program's packet is given up before it meets a rule.
ip route add default via 10.1.1.22
ip -6 route add default via fd00:11::22
sysctl -qw net.ipv6.conf.all.forwarding=1
for pod in pod1 pod2; do
    systemd-run --quiet --unit "$pod" ip netns exec "$pod" python3 /root/pod.py serve "$pod" 8080
done
