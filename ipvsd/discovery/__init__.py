"""Discover the kube-proxy that runs on this node: its process, its answers and its log."""
