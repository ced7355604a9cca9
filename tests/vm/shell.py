"""A shell in a bench machine with the package installed: `make vm`."""

from __future__ import annotations

import sys

from tests.vm.image import chosen
from tests.vm.machine import Machine
from tests.vm.node import Node


def main() -> None:
    """Boot, install, and give the console to the person."""
    print("booting; log in as root without a password; 'poweroff' or Ctrl-a x ends it", file=sys.stderr)
    with Machine(chosen(), interactive=True) as machine:
        node = Node(machine)
        machine.booted()
        node.install()
        print("\r\nipvsd is installed; try 'ipvsd status'\r", file=sys.stderr)
        machine.wait()


if __name__ == "__main__":
    main()
