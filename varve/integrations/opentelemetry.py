"""Metrics and traces for OpenTelemetry (extra ``opentelemetry``)::

    from varve.integrations.opentelemetry import Telemetry, trace_metadata

    telemetry = Telemetry(db)
    orders.append(1, event, metadata=trace_metadata())

    for batch in consumer.follow_batches():
        with telemetry.process(consumer, batch):
            ...

Only the API is needed; without an SDK nothing is exported. docs/observability.md has names and attributes.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from varve.columns.extras import need
from varve.errors import InvalidInput
from varve.integrations.metrics import Members, Meter, Metric, label_of, of_kind
from varve.record import Recorded
from varve.reports import CommitReport
from varve.store import Varve
from varve.tailing.consumer import Consumer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Link, Span, Tracer, TracerProvider

__all__ = ["Telemetry", "trace_context", "trace_metadata"]

_WHAT: Final = "varve.integrations.opentelemetry"
_SCOPE: Final = "varve"
_NAMES: Final = ("traceparent", "tracestate")
LINKS_MAX: Final = 128
"""Links of a batch's span: what SDKs keep by default."""


class Telemetry:
    """An open store's metrics, and a span for each of its commits, until ``close()`` or the end of a ``with`` block.

    ``meter_provider``, ``tracer_provider``: the global ones where they are None. ``store``: the attribute ``varve.store`` of
    everything, the store's path where it is None. ``commit_spans``: whether commits become spans.

    The span of a commit that a thread makes for itself is a child of that thread's current span. One that the helper thread makes
    for many who wait belongs to none of them and is a root of its own. The store is not kept open by this. Raises
    ``MissingExtra``, ``InvalidInput``, ``StoreClosed``.
    """

    def __init__(
        self,
        db: Varve,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        store: str | None = None,
        commit_spans: bool = True,
    ) -> None:
        metrics = need("opentelemetry.metrics", "opentelemetry", _WHAT)
        self._trace = need("opentelemetry.trace", "opentelemetry", _WHAT)
        self._store = label_of(db, store)
        self._tracer: Tracer = self._trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        instruments = _Instruments(meter, self._store)
        self._meter = (
            _TracingMeter(db, instruments, self._trace, self._tracer, self._store)
            if commit_spans
            else Meter(db, instruments)
        )
        self._members = _members_of(metrics, meter_provider)
        self._members.enter(self._store, self._meter)
        try:
            self._meter.begin()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def process(self, consumer: Consumer[Any], events: Sequence[Recorded[Any]]) -> Iterator[Span]:
        """A span around the handling of a consumer's batch, the current one inside the ``with`` block.

        It links to the traces in which the events were appended, as their metadata says (``trace_metadata``), each once and
        at most ``LINKS_MAX``. What the block raises is recorded on it.
        """
        trace = self._trace
        attributes: dict[str, Any] = {
            "messaging.system": "varve",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.consumer.group.name": consumer.name,
            "messaging.batch.message_count": len(events),
            "varve.store": self._store,
        }
        if events:
            attributes["varve.first_sequence"] = events[0].global_sequence
            attributes["varve.last_sequence"] = events[-1].global_sequence
        with self._tracer.start_as_current_span(
            f"process {consumer.name}", kind=trace.SpanKind.CONSUMER, attributes=attributes, links=_links(trace, events)
        ) as span:
            yield span

    def close(self) -> None:
        """Watch no more. Nothing happens where it is closed already."""
        self._meter.end()
        self._members.leave(self._store, self._meter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Telemetry of {self._store}>"


class _Gauges:
    """The gauges of one provider, which takes each name once, whatever store it is for.

    An SDK asks for them one by one: the store is read for the first, and again for one that is asked for a second time.
    """

    def __init__(self, metrics: Any, meter: Any) -> None:
        self.members = Members()
        self._observation = metrics.Observation
        self._lock = threading.Lock()
        self._read: dict[Metric, list[Observation]] = {}
        for metric in of_kind("gauge"):
            meter.create_observable_gauge(metric.name, [partial(self._observe, metric)], metric.unit, metric.help)

    def _observe(self, metric: Metric, _: CallbackOptions) -> list[Observation]:
        with self._lock:
            if metric not in self._read:
                self._read = {one: [] for one in of_kind("gauge")}
                for store, meter in self.members:
                    for reading in meter.readings():
                        attributes = _attributes(store, reading.metric, reading.label)
                        self._read[reading.metric].append(self._observation(reading.value, attributes))
            return self._read.pop(metric)


_making = threading.Lock()
_gauges: weakref.WeakKeyDictionary[Any, _Gauges] = weakref.WeakKeyDictionary()


class _Global:
    """Stands for the global provider, whichever it is: who asks before it is set gets one that hands on to it."""


_GLOBAL: Final = _Global()


def _members_of(metrics: Any, provider: MeterProvider | None) -> Members:
    """The stores of a provider, with its gauges made at the first one."""
    key: Any = _GLOBAL if provider is None or provider is metrics.get_meter_provider() else provider
    with _making:
        gauges = _gauges.get(key)
        if gauges is None:
            gauges = _gauges[key] = _Gauges(metrics, metrics.get_meter(_SCOPE, meter_provider=provider))
    return gauges.members


def trace_metadata(metadata: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Metadata for an append, with the current span's ``traceparent`` and ``tracestate`` (W3C) in it.

    ``metadata``: what else it shall hold, and what it says of these two itself stays. Without a current span it is what was
    given, None for None, and the append costs what it cost. With one it costs its event about 70 bytes. Raises
    ``MissingExtra``, ``InvalidInput``.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidInput(f"metadata is a mapping with str keys, not {type(metadata).__name__}")
    carrier: dict[str, Any] = {}
    _propagator().inject(carrier)
    if not carrier:
        return None if metadata is None else dict(metadata)
    return {**carrier, **(metadata or {})}


def trace_context(recorded: Recorded[Any]) -> Context | None:
    """The trace in which an event was appended, to continue it or to link to it; None where its metadata has none, or none that
    can be read. Raises ``MissingExtra``."""
    trace = need("opentelemetry.trace", "opentelemetry", _WHAT)
    context: Context = _propagator().extract(_carrier(recorded), context=_empty())
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _links(trace: Any, events: Iterable[Recorded[Any]]) -> list[Link]:
    """The traces of events, each once."""
    propagator, empty = _propagator(), _empty()
    known: set[tuple[str, ...]] = set()
    links: list[Link] = []
    for recorded in events:
        carrier = _carrier(recorded)
        said = tuple(carrier.values())
        if not said or said in known:
            continue
        known.add(said)
        context = trace.get_current_span(propagator.extract(carrier, context=empty)).get_span_context()
        if context.is_valid:
            links.append(trace.Link(context))
            if len(links) >= LINKS_MAX:
                break
    return links


def _carrier(recorded: Recorded[Any]) -> dict[str, str]:
    """What an event's metadata says of its trace. Anybody may have written it."""
    metadata = recorded.metadata
    if not metadata:
        return {}
    return {name: value for name in _NAMES if isinstance(value := metadata.get(name), str)}


def _propagator() -> Any:
    return need("opentelemetry.trace.propagation.tracecontext", "opentelemetry", _WHAT).TraceContextTextMapPropagator()


def _empty() -> Any:
    return need("opentelemetry.context", "opentelemetry", _WHAT).Context()


def _attributes(store: str, metric: Metric, label: str) -> dict[str, str]:
    attributes = {"varve.store": store}
    if metric.label == "code":
        attributes["error.type"] = label
    elif metric.label:
        attributes[f"varve.{metric.label}"] = label
    return attributes


class _Instruments:
    """Counters and histograms of one store."""

    def __init__(self, meter: Any, store: str) -> None:
        self._store = store
        self._made: dict[str, Any] = {}
        for metric in of_kind("counter"):
            self._made[metric.name] = meter.create_counter(metric.name, metric.unit, metric.help)
        for metric in of_kind("histogram"):
            self._made[metric.name] = meter.create_histogram(
                metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
            )
        self._labels: dict[tuple[str, str], dict[str, str]] = {}

    def _of(self, metric: Metric, label: str) -> dict[str, str]:
        known = self._labels.get((metric.label, label))
        if known is None:
            known = self._labels[metric.label, label] = _attributes(self._store, metric, label)
        return known

    def add(self, metric: Metric, value: float, label: str = "") -> None:
        self._made[metric.name].add(value, self._of(metric, label))

    def record(self, metric: Metric, value: float, label: str = "") -> None:
        self._made[metric.name].record(value, self._of(metric, label))


class _TracingMeter(Meter):
    """Metrics, and a span for each commit."""

    def __init__(self, db: Varve, instruments: _Instruments, trace: Any, tracer: Tracer, store: str) -> None:
        super().__init__(db, instruments)
        self._trace = trace
        self._tracer = tracer
        self._store = store

    def commit_ended(self, report: CommitReport, /) -> None:
        """Count the commit, and make its span, which begins as long ago as it took."""
        super().commit_ended(report)
        took_ns = round((report.waited_s + report.prepared_s + report.commit_s) * 1e9)
        end_ns = time.time_ns()
        attributes: dict[str, Any] = {
            "db.system.name": "varve",
            "db.operation.name": "commit",
            "db.operation.batch.size": report.commits,
            "varve.store": self._store,
            "varve.events": report.events,
            "varve.event_bytes": report.event_bytes,
            "varve.waited_s": report.waited_s,
            "varve.commit_s": report.commit_s,
        }
        if report.errors:
            attributes["error.type"] = report.errors[0]
        trace = self._trace
        span = self._tracer.start_span(
            "varve.commit", kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=end_ns - took_ns
        )
        if report.errors and not report.commits:
            span.set_status(trace.StatusCode.ERROR, ", ".join(sorted(set(report.errors))))
        span.end(end_time=end_ns)
