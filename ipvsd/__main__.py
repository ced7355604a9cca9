"""python3 -m ipvsd."""

import sys

from ipvsd.cli import main

sys.exit(main())
