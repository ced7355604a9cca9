"""firewalld can unload the modules of the firewall, and those that depend on them, when it stops or restarts.

These are nf_conntrack and all its users, including ip_vs, and modules named nf_*, xt_* and so on
(src/firewall/core/modules.py). `CleanupModulesOnExit=` controls it, and in versions without this option
`CleanupOnExit=`. Its default is `no` since 1.0, and `yes` where 0.9 has the option as a backport.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from ipvsd.conflicts import ini_files
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree

CONF = "etc/firewalld/firewalld.conf"
_OPTION = "CleanupModulesOnExit"

# The modules that firewalld names, and those that depend on nf_conntrack.
_UNLOADED = re.compile(
    r"nf_|xt_|ipt_|ip6t_|iptable_|ip6table_|(?:ip|ip6)_tables\Z|ebtables\Z|ip_vs|nft_(?:ct|.*nat|masq)"
)


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    """Yield the modules that firewalld unloads, if systemd starts it."""
    if not tree.enabled("firewalld.service"):
        return
    entries = ini_files.read(tree, [CONF])
    entry = ini_files.last(entries, "", _OPTION)
    default = _default(tree, ini_files.last(entries, "", "CleanupOnExit"))
    unloads = default if entry is None else ini_files.parse_boolean(entry.value)
    if unloads is False:
        return
    origin, text = (entry.origin, str(entry)) if entry else (tree.shown(CONF), f"no {_OPTION}=")
    remedy = f"set '{_OPTION}=no' in {tree.shown(CONF)}"
    for name in names.modules:
        if _UNLOADED.match(name):
            certain = bool(unloads)
            yield ExternalSetting(name, Effect.UNLOADS, Program.FIREWALLD, origin, text, certain=certain, remedy=remedy)


def _default(tree: FileTree, cleanup: Optional[ini_files.Entry]) -> Optional[bool]:
    for python in sorted(tree.names("usr/lib")):
        if python.startswith("python3"):
            for packages in ("dist-packages", "site-packages"):
                text = tree.read(f"usr/lib/{python}/{packages}/firewall/config/__init__.py")
                if text is not None:
                    found = re.search(r"^FALLBACK_CLEANUP_MODULES_ON_EXIT\s*=\s*(True|False)\b", text, re.MULTILINE)
                    cleans = cleanup is None or ini_files.parse_boolean(cleanup.value) is not False
                    return found[1] == "True" if found else cleans
    return None
