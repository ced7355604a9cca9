#!/bin/sh
# Inside the machine: a node with two pods on a bridge, and two others outside, as a network plugin would have it.
set -eu
ip link add cni0 type bridge
ip addr add 10.244.0.1/24 dev cni0
ip addr add fd00:244::1/64 dev cni0 nodad
ip link set cni0 up
ip link add outside type bridge
ip addr add 10.1.0.1/24 dev outside
ip addr add fd00:1::1/64 dev outside nodad
ip link set outside up
member() {  # NAME BRIDGE NETWORK4 NETWORK6 NUMBER
    ip netns add "$1"
    ip link add "$1" type veth peer name eth0 netns "$1"
    ip link set "$1" master "$2" up
    bridge link set dev "$1" hairpin on
    ip -n "$1" link set lo up
    ip -n "$1" addr add "$3.$5/24" dev eth0
    ip -n "$1" addr add "$4::$5/64" dev eth0 nodad
    ip -n "$1" link set eth0 up
    ip -n "$1" route add default via "$3.1"
    ip -n "$1" -6 route add default via "$4::1"
}
member pod1 cni0 10.244.0 fd00:244 11
member pod2 cni0 10.244.0 fd00:244 12
member client outside 10.1.0 fd00:1 21
member stranger outside 10.1.0 fd00:1 22
# Where there is no route at all, a local program's packet is given up before it meets a rule.
ip route add default via 10.1.0.21
ip -6 route add default via fd00:1::21
sysctl -qw net.ipv6.conf.all.forwarding=1
for pod in pod1 pod2; do
    systemd-run --quiet --unit "$pod" ip netns exec "$pod" python3 /root/pod.py serve "$pod" 8080
done
