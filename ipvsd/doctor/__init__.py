"""The findings of `ipvsd doctor` about a node and its kube-proxy, each with its evidence and the way to fix it."""
