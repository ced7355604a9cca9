"""In the machine: replace a module's file by its uncompressed form. `--unsign` removes its signature.

The signature follows the module: data, struct module_signature (<linux/module_signature.h>), a mark.
"""

from __future__ import annotations

import lzma
import struct
import sys
from pathlib import Path

MARK = b"~Module signature appended~\n"

*options, name = sys.argv[1:]
path = Path(name)
data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
if not data.endswith(MARK):
    sys.exit(f"{path} is not signed")
if "--unsign" in options:
    end = len(data) - len(MARK)
    (length,) = struct.unpack(">I", data[end - 4 : end])
    data = data[: end - 12 - length]
path.unlink()
plain = path.with_suffix("") if path.suffix == ".xz" else path
plain.write_bytes(data)
print(plain)
