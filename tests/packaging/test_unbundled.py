"""The .rpm that bundles nothing, in a root whose distribution contains the libraries."""

from __future__ import annotations

from pathlib import Path

from ipvsd import __version__
from tests.packaging.root import Root
from tests.trees import make_tree


def test_it_works_with_the_libraries_of_the_distribution(clean: Root, packages: dict[str, Path]) -> None:
    done = clean.rpm("-i", str(packages["unbundled"]))
    make_tree(clean.directory / "tmp/unbundled")
    assert (done.stdout, done.stderr) == ("", "")
    assert "./usr/share/ipvsd/vendor" not in clean.paths()
    assert clean.run("ipvsd --version").stdout == f"ipvsd {__version__}\n"
    assert "ready" in clean.run("ipvsd check --root /tmp/unbundled").stdout
    assert clean.imports(
        "ipvsd.reporting.http_endpoint, ipvsd.watch.config_watcher, ipvsd.daemon.main_loop, watchdog.observers",
        "/usr/share/ipvsd",
    )
