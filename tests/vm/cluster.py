"""The objects of a small cluster for the API of guest/apiserver.py: one service for each kind of rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NODE = "bench"
FAMILIES = ("IPv4", "IPv6")
PODS = {
    "pod1": {"IPv4": "10.244.0.11", "IPv6": "fd00:244::11"},
    "pod2": {"IPv4": "10.244.0.12", "IPv6": "fd00:244::12"},
}
NODE_ADDRESS = {"IPv4": "10.1.0.1", "IPv6": "fd00:1::1"}
CLIENT = {"IPv4": "10.1.0.21", "IPv6": "fd00:1::21"}
PORT, NODE_PORT, LOCAL_PORT, DNS_PORT = 8080, 30080, 30081, 30053
_CLUSTER = {"IPv4": "10.96.0.{}", "IPv6": "fd00:96::{}"}
_BALANCER = {"IPv4": "192.0.2.{}", "IPv6": "2001:db8::{}"}
# The last part of the addresses of each service.
NUMBERS = {"web": 10, "sticky": 11, "lb": 12, "local": 13, "dns": 14, "empty": 15, "outer": 16, "sctp": 17}
# Services whose endpoints are removed and return. kube-proxy synchronises after each change, which takes a second
# on a busy machine. The other services would only repeat it.
MOVED = ("web", "dns")

Object = dict[str, Any]


def address(service: str, family: str) -> str:
    return _CLUSTER[family].format(NUMBERS[service])


def balancer(service: str, family: str) -> str:
    """Return the address of a service's load balancer, or its external address."""
    return _BALANCER[family].format(NUMBERS[service])


def objects(families: Sequence[str], gone: Sequence[str] = ()) -> Mapping[str, Sequence[Object]]:
    """Return the node, its services and their endpoints in these families.

    The services of `MOVED` lack the pods that are `gone`.
    """
    tcp = {"name": "main", "protocol": "TCP", "port": 80, "targetPort": PORT}
    udp = {"name": "main", "protocol": "UDP", "port": 53, "targetPort": PORT}
    ranges = [f"{CLIENT[family]}/{32 if family == 'IPv4' else 128}" for family in families]
    ingress = [{"ip": balancer("lb", family)} for family in families]
    services = [
        _service(families, "web", {**tcp, "nodePort": NODE_PORT}, type="NodePort"),
        _service(families, "sticky", tcp, sessionAffinity="ClientIP",
                 sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}}),
        _service(
            families, "lb", {**tcp, "nodePort": 30082}, type="LoadBalancer", loadBalancerSourceRanges=ranges,
        ) | {"status": {"loadBalancer": {"ingress": ingress}}},
        _service(families, "local", {**tcp, "nodePort": LOCAL_PORT}, type="NodePort", externalTrafficPolicy="Local"),
        _service(families, "dns", {**udp, "nodePort": DNS_PORT}, type="NodePort"),
        _service(families, "empty", tcp),
        _service(families, "outer", tcp, externalIPs=[balancer("outer", family) for family in families]),
        _service(families, "sctp", {**tcp, "protocol": "SCTP"}),
    ]  # fmt: skip
    slices = [
        _slice(service, family, _endpoints(service["metadata"]["name"], gone))
        for service in services
        for family in families
    ]
    return {"nodes": [_node(families)], "services": services, "endpointslices": slices}


def _endpoints(service: str, gone: Sequence[str]) -> Sequence[str]:
    if service == "empty":
        return ()
    return [pod for pod in PODS if service not in MOVED or pod not in gone]


def _meta(name: str, **labels: str) -> Object:
    return {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": labels}


def _node(families: Sequence[str]) -> Object:
    addresses = [{"type": "InternalIP", "address": NODE_ADDRESS[family]} for family in families]
    return {
        "metadata": {"name": NODE, "uid": NODE},
        "spec": {},
        "status": {"addresses": [*addresses, {"type": "Hostname", "address": NODE}]},
    }


def _service(families: Sequence[str], name: str, port: Object, **spec: Any) -> Object:
    addresses = [address(name, family) for family in families]
    common = {"ipFamilies": list(families), "ipFamilyPolicy": "RequireDualStack", "sessionAffinity": "None"}
    chosen = {"type": "ClusterIP", "clusterIP": addresses[0], "clusterIPs": addresses, "ports": [port]}
    return {"metadata": _meta(name), "spec": {**common, **chosen, **spec}, "status": {"loadBalancer": {}}}


def _slice(service: Object, family: str, pods: Sequence[str]) -> Object:
    name, (port,) = service["metadata"]["name"], service["spec"]["ports"]
    # 1.20 (v1beta1) reads the node from the topology, and later versions (v1) from nodeName.
    endpoints = [
        {
            "addresses": [PODS[pod][family]],
            "conditions": {"ready": True},
            "nodeName": NODE,
            "topology": {"kubernetes.io/hostname": NODE},
        }
        for pod in pods
    ]
    return {
        "metadata": _meta(f"{name}-{family.lower()}", **{"kubernetes.io/service-name": name}),
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": port["name"], "protocol": port["protocol"], "port": port["targetPort"]}],
    }
