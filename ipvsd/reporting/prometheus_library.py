"""prometheus-client without the modules of its HTTP servers and clients, which ipvsd does not use.

The library imports them whether or not they are used. Together with those that they import (email, html, mimetypes),
they take 2 MB of the daemon's memory.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_LIBRARY = "prometheus_client"
# Their names in the library are base classes, or are used by functions that need a server or a Pushgateway.
_UNUSED = ("http.server", "socketserver", "urllib.error", "urllib.request", "wsgiref", "wsgiref.simple_server")


class _Placeholder(ModuleType):
    """A module in which every public name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("_"):  # importlib looks for some of these
            raise AttributeError(name)
        return type(name, (), {})


def _import_library() -> None:
    placeholders = {name: _Placeholder(name) for name in _UNUSED if name not in sys.modules}
    sys.modules.update(placeholders)
    try:
        importlib.import_module(_LIBRARY)
    except Exception:  # noqa: BLE001 -- this version uses a placeholder for more than a base class; imported again below
        for name in [name for name in list(sys.modules) if name.partition(".")[0] == _LIBRARY]:
            del sys.modules[name]
    finally:
        for name in placeholders:
            del sys.modules[name]


_import_library()

from prometheus_client import CollectorRegistry, ProcessCollector, exposition, generate_latest  # noqa: E402
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily  # noqa: E402
from prometheus_client.metrics_core import Metric  # noqa: E402

__all__ = [
    "CollectorRegistry",
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "Metric",
    "ProcessCollector",
    "exposition",
    "generate_latest",
]
