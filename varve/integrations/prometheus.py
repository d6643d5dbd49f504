"""Metrics for Prometheus (extra ``prometheus``)::

    from prometheus_client import start_http_server
    from varve.integrations.prometheus import PrometheusMetrics

    metrics = PrometheusMetrics(db)
    start_http_server(9000)

docs/observability.md has the names.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from varve.columns.extras import need
from varve.integrations.metrics import Members, Meter, Metric, label_of, of_kind
from varve.store import Varve

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily

__all__ = ["PrometheusMetrics"]

_WHAT: Final = "varve.integrations.prometheus"


class PrometheusMetrics:
    """The metrics of an open store in a registry, until ``close()`` or the end of a ``with`` block.

    ``registry``: prometheus_client's default one where it is None. ``store``: what the label ``store`` of every sample says;
    the store's path where it is None. Any number of stores may share a registry.

    Counters and histograms count what this handle does; gauges are read from the store when the registry is scraped, and are left
    out once it is closed. The store is not kept open by this. Raises ``MissingExtra``, ``InvalidInput`` where the registry
    has a store of that name already, ``StoreClosed``.
    """

    def __init__(self, db: Varve, *, registry: CollectorRegistry | None = None, store: str | None = None) -> None:
        client = need("prometheus_client", "prometheus", _WHAT)
        self._store = label_of(db, store)
        found = client.REGISTRY if registry is None else registry
        with _making:
            shared = _shared.get(found)
            if shared is None:
                shared = _shared[found] = _Shared(client, found)
        self._shared = shared
        self._meter = Meter(db, _Labelled(shared, self._store))
        shared.members.enter(self._store, self._meter)
        try:
            self._meter.begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Watch no more: gauges go, counters stay where they are. Nothing happens where it is closed already."""
        self._meter.end()
        self._shared.members.leave(self._store, self._meter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PrometheusMetrics of {self._store}>"


class _Shared:
    """What the stores of one registry share: Prometheus wants each name once."""

    def __init__(self, client: Any, registry: CollectorRegistry) -> None:
        self._family = need("prometheus_client.core", "prometheus", _WHAT).GaugeMetricFamily
        self.members = Members()
        self.instruments: dict[str, Any] = {}
        for metric in of_kind("counter", "histogram"):
            labels = ("store", metric.label) if metric.label else ("store",)
            name, options = metric.prometheus_name, {}
            if metric.kind == "histogram":
                options["buckets"] = metric.buckets
            make = client.Counter if metric.kind == "counter" else client.Histogram
            self.instruments[metric.name] = make(name, metric.help, labels, registry=registry, **options)
        registry.register(_Gauges(self))

    def families(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of every store."""
        made = {
            metric.name: self._family(
                metric.prometheus_name, metric.help, labels=["store", metric.label] if metric.label else ["store"]
            )
            for metric in of_kind("gauge")
        }
        for store, meter in self.members:
            for reading in meter.readings():
                metric = reading.metric
                made[metric.name].add_metric([store, reading.label] if metric.label else [store], reading.value)
        return iter(made.values())


class _Gauges:
    """The collector of a registry: holds no store, and no registry."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, read now."""
        return self._shared.families()


class _Labelled:
    """The instruments of one store."""

    def __init__(self, shared: _Shared, store: str) -> None:
        self._instruments = shared.instruments
        self._store = store
        self._children: dict[tuple[str, str], Any] = {}

    def _child(self, metric: Metric, label: str) -> Any:
        child = self._children.get((metric.name, label))
        if child is None:
            values = (self._store, label) if metric.label else (self._store,)
            child = self._children[metric.name, label] = self._instruments[metric.name].labels(*values)
        return child

    def add(self, metric: Metric, value: float, label: str = "") -> None:
        self._child(metric, label).inc(value)

    def record(self, metric: Metric, value: float, label: str = "") -> None:
        self._child(metric, label).observe(value)


_making = threading.Lock()
_shared: weakref.WeakKeyDictionary[CollectorRegistry, _Shared] = weakref.WeakKeyDictionary()
