"""ipvsd config from-kube-proxy: print a drop-in that matches a kube-proxy configuration."""

from __future__ import annotations

from typing import Optional

from ipvsd.commands import kube_proxy_file
from ipvsd.commands.output import print_errors, print_lines
from ipvsd.config.profiles import Version
from ipvsd.kube_proxy import drop_in
from ipvsd.kube_proxy.config_check import Versions, check
from ipvsd.kube_proxy.findings import Severity
from ipvsd.kube_proxy.node_comparison import Node


def run(root: str, config_path: Optional[str], file: str, requested: Optional[Version] = None) -> int:
    """Print the drop-in. Exit 1 if the file has an error, or names another file with --config.

    Raises rootfs.UnreadableError.
    """
    data = kube_proxy_file.read(file)
    node, _ = kube_proxy_file.observe(root, config_path)
    result = check(data, Versions(requested), Node(cpus=node.cpus))
    errors = [found for found in result.findings if found.severity is Severity.ERROR]
    name = kube_proxy_file.shown(file)
    settings = result.deciding
    if errors or settings is None:
        print_errors(
            *(f"{name}:{found.line}:{found.column}: {found.key}: {found.problem}" for found in errors),
            f"ipvsd: cannot read {name}: run 'ipvsd doctor kube-proxy-config {name}'",
        )
        return 1
    if settings.config_file:
        print_errors(
            f"ipvsd: cannot print a drop-in for {name}: the mode is in {settings.config_file}; give that file instead"
        )
        return 1
    print_lines(*drop_in.lines(settings, result.version, result.version_known, node.cpus))
    return 0
