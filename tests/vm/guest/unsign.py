"""Inside the machine: cut the signature off a module's file (struct module_signature of <linux/module_signature.h>)."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

MAGIC = b"~Module signature appended~\n"

path = Path(sys.argv[1])
data = path.read_bytes()
if not data.endswith(MAGIC):
    sys.exit(f"{path} is not signed")
end = len(data) - len(MAGIC)
(length,) = struct.unpack(">I", data[end - 4 : end])
path.write_bytes(data[: end - 12 - length])
