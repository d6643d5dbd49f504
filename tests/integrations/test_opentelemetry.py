"""OpenTelemetry's metrics and spans of a store, and traces that go from an append to whoever consumes it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import varve
from varve.integrations.metrics import METRICS
from varve.integrations.opentelemetry import LINKS_MAX, Telemetry, trace_context, trace_metadata


@varve.event
class Note:
    number: varve.u64


class Sdk:
    """An SDK that keeps everything."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])
        self.tracer_provider = TracerProvider()
        self.exporter = InMemorySpanExporter()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracer_provider.get_tracer("tests")

    def telemetry(self, db: varve.Varve, **options: Any) -> Telemetry:
        options.setdefault("store", "shop")
        return Telemetry(db, meter_provider=self.meter_provider, tracer_provider=self.tracer_provider, **options)

    def points(self) -> dict[str, list[Any]]:
        """The data points of each metric."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def sdk() -> Sdk:
    return Sdk()


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_are_what_was_done(db: varve.Varve, sdk: Sdk) -> None:
    """Counters, histograms and gauges, with the store and the error's code as attributes."""
    sdk.telemetry(db)
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(1), Note(2)], idempotency_key="k")
    notes.append_batch(1, [Note(1), Note(2)], idempotency_key="k")
    with pytest.raises(varve.WrongExpectedVersion):
        notes.append(1, Note(3), expected=0)
    with db.consumer("mail") as consumer:
        assert len(list(consumer.follow(timeout_s=0))) == 2
    points = sdk.points()
    assert set(points) == {metric.name for metric in METRICS}
    [events] = points["varve.events"]
    assert (events.value, dict(events.attributes)) == (2, {"varve.store": "shop"})
    [errors] = points["varve.commit.errors"]
    assert (errors.value, dict(errors.attributes)) == (
        1,
        {"varve.store": "shop", "error.type": varve.WrongExpectedVersion.code},
    )
    assert points["varve.commit.replays"][0].value == 1
    [duration] = points["varve.commit.duration"]
    writes = db.stats().writes
    assert duration.count == points["varve.transactions"][0].value == writes.transactions
    assert duration.sum == pytest.approx(writes.commit_s)
    assert points["varve.next_sequence"][0].value == 2
    [lag] = points["varve.consumer.lag"]
    assert (lag.value, dict(lag.attributes)) == (0, {"varve.store": "shop", "varve.consumer": "mail"})
    [handled] = points["varve.consumer.events"]
    assert (handled.value, dict(handled.attributes)) == (2, {"varve.store": "shop", "varve.consumer": "mail"})


def test_gauges_are_read_anew_each_time(db: varve.Varve, sdk: Sdk) -> None:
    """Once for a collection, however many gauges there are."""
    asked: list[varve.StoreStats] = []
    real = varve.Varve.stats

    def stats(self: varve.Varve) -> varve.StoreStats:
        asked.append(real(self))
        return asked[-1]

    sdk.telemetry(db)
    notes = db.stream("notes", Note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varve.Varve, "stats", stats)
        for count in range(3):
            assert sdk.points()["varve.next_sequence"][0].value == count
            notes.append(1, Note(count))
    assert len(asked) == 3


def test_stores_share_a_provider(tmp_path: Path, sdk: Sdk) -> None:
    """An SDK takes each gauge once; a name that is taken is refused, and free again after its end."""
    with varve.open(tmp_path / "a") as one, varve.open(tmp_path / "b") as two:
        telemetry = sdk.telemetry(one)
        with pytest.raises(varve.InvalidInput, match="'shop'"):
            sdk.telemetry(two)
        other = sdk.telemetry(two, store=None)
        assert str(tmp_path / "b") in repr(other)
        one.stream("notes", Note).append(1, Note(1))
        told = {point.attributes["varve.store"]: point.value for point in sdk.points()["varve.next_sequence"]}
        assert told == {"shop": 1, two.path: 0}
        telemetry.close()
        telemetry.close()
        one.stream("notes", Note).append(1, Note(2))
        points = sdk.points()
        assert [point.attributes["varve.store"] for point in points["varve.next_sequence"]] == [two.path]
        assert [point.value for point in points["varve.events"]] == [1]
        with sdk.telemetry(one):
            told = {point.attributes["varve.store"]: point.value for point in sdk.points()["varve.next_sequence"]}
            assert told == {"shop": 2, two.path: 0}


def test_a_closed_store_is_collected_all_the_same(varve_path: Path, sdk: Sdk) -> None:
    """Without gauges; telemetry cannot be made for it, and what failed has left nothing behind."""
    db = varve.open(varve_path)
    telemetry = sdk.telemetry(db)
    db.close()
    assert "varve.next_sequence" not in sdk.points()
    telemetry.close()
    for _ in range(2):
        with pytest.raises(varve.StoreClosed):
            sdk.telemetry(db)


def test_telemetry_does_not_keep_a_store_open(varve_path: Path, sdk: Sdk) -> None:
    """A handle that was dropped goes."""
    db = varve.open(varve_path)
    telemetry = sdk.telemetry(db)
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None
    telemetry.close()


def test_without_an_sdk_nothing_happens(db: varve.Varve) -> None:
    """The API alone makes nothing of it, and appends go on."""
    with Telemetry(db) as telemetry, telemetry.process(db.consumer("mail"), []):
        db.stream("notes", Note).append(1, Note(1), metadata=trace_metadata())
    assert db.next_global_sequence == 1


# -- spans of commits -------------------------------------------------------------------------------------------------


def test_a_commit_is_a_span_below_the_current_one(db: varve.Varve, sdk: Sdk) -> None:
    """With its figures, and the time that it took."""
    heard: list[varve.CommitReport] = []

    class Heard(varve.Observer):
        def commit_ended(self, report: varve.CommitReport, /) -> None:
            heard.append(report)

    db.observe(Heard())
    sdk.telemetry(db)
    with sdk.tracer.start_as_current_span("checkout") as parent:
        db.stream("notes", Note).append_batch(1, [Note(1), Note(2)])
    [span] = sdk.spans("varve.commit")
    assert span.parent == parent.get_span_context()
    assert span.kind is SpanKind.CLIENT
    assert span.attributes is not None
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes["varve.events"], span.attributes["varve.store"]) == (2, "shop")
    assert "error.type" not in span.attributes
    [report] = heard
    assert span.end_time is not None
    assert span.start_time is not None
    took_s = report.waited_s + report.prepared_s + report.commit_s
    assert span.end_time - span.start_time == pytest.approx(took_s * 1e9, abs=1)


def test_a_refused_commit_is_a_span_with_an_error(db: varve.Varve, sdk: Sdk) -> None:
    """Its type is the error's code."""
    sdk.telemetry(db)
    with pytest.raises(varve.WrongExpectedVersion):
        db.stream("notes", Note).append(1, Note(1), expected=3)
    [span] = sdk.spans("varve.commit")
    assert span.attributes is not None
    assert span.attributes["error.type"] == varve.WrongExpectedVersion.code
    assert span.status.status_code is StatusCode.ERROR


def test_the_helper_threads_spans_are_roots(db: varve.Varve, sdk: Sdk) -> None:
    """They serve many: no append's span is their parent."""
    sdk.telemetry(db)

    async def main() -> None:
        with sdk.tracer.start_as_current_span("checkout"):
            await db.stream("notes", Note).append_async(1, Note(1))

    asyncio.run(main())
    [span] = sdk.spans("varve.commit")
    assert span.parent is None


def test_spans_of_commits_can_be_left_out(db: varve.Varve, sdk: Sdk) -> None:
    """The metrics stay."""
    sdk.telemetry(db, commit_spans=False)
    db.stream("notes", Note).append(1, Note(1))
    assert sdk.spans("varve.commit") == []
    assert sdk.points()["varve.events"][0].value == 1


# -- traces in events -------------------------------------------------------------------------------------------------


def test_a_batchs_span_links_to_the_traces_of_its_events(db: varve.Varve, sdk: Sdk) -> None:
    """Each trace once, in the events' order; it is current inside, and what was done inside is its child."""
    telemetry = sdk.telemetry(db)
    notes = db.stream("notes", Note)
    contexts = []
    for number in range(2):
        with sdk.tracer.start_as_current_span("checkout") as span:
            contexts.append(span.get_span_context())
            notes.append(1, Note(number), metadata=trace_metadata({"user": "ada"}))
            with db.transaction(metadata=trace_metadata()) as tx:
                tx.append(notes, 2, Note(number))
    notes.append(1, Note(9))
    with db.consumer("mail") as consumer:
        for batch in consumer.follow_batches(timeout_s=0):
            with telemetry.process(consumer, batch) as span, sdk.tracer.start_as_current_span("inside"):
                assert [recorded.metadata and recorded.metadata.get("user") for recorded in batch] == [
                    "ada", None, "ada", None, None
                ]  # fmt: skip
    [span] = sdk.spans("process mail")
    [inside] = sdk.spans("inside")
    assert inside.parent == span.get_span_context()
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is None
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [
        (context.trace_id, context.span_id) for context in contexts
    ]
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 5
    assert span.attributes["messaging.consumer.group.name"] == "mail"
    assert (span.attributes["varve.first_sequence"], span.attributes["varve.last_sequence"]) == (0, 4)


def test_an_error_in_the_handling_is_on_the_span(db: varve.Varve, sdk: Sdk) -> None:
    """And goes on its way."""
    telemetry = sdk.telemetry(db)
    with db.consumer("mail") as consumer, pytest.raises(KeyError), telemetry.process(consumer, []):
        raise KeyError("mine")
    [span] = sdk.spans("process mail")
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


def test_links_have_an_end(db: varve.Varve, sdk: Sdk) -> None:
    """As many as SDKs keep."""
    telemetry = sdk.telemetry(db, commit_spans=False)
    notes = db.stream("notes", Note)
    with db.transaction() as tx:
        for number in range(LINKS_MAX + 5):
            with sdk.tracer.start_as_current_span("checkout"):
                tx.append(notes, 1, Note(number), metadata=trace_metadata())
    with db.consumer("mail") as consumer:
        [batch] = consumer.follow_batches(timeout_s=0)
        with telemetry.process(consumer, batch):
            pass
    assert len(sdk.spans("process mail")[0].links) == LINKS_MAX


def test_metadata_of_others_is_no_error(db: varve.Varve, sdk: Sdk) -> None:
    """Whatever stands there: no link, no context."""
    telemetry = sdk.telemetry(db)
    notes = db.stream("notes", Note)
    wrong: list[dict[str, Any]] = [
        {"traceparent": 7},
        {"traceparent": "junk"},
        {"traceparent": "00-00000000000000000000000000000000-0000000000000000-01"},
        {"tracestate": "a=b"},
        {"traceparent": ["00"]},
        {},
    ]
    for metadata in wrong:
        notes.append(1, Note(1), metadata=metadata)
    events = list(notes.reader().iter_stream(1))
    assert [trace_context(recorded) for recorded in events] == [None] * len(wrong)
    with db.consumer("mail") as consumer, telemetry.process(consumer, events):
        pass
    assert not sdk.spans("process mail")[0].links


def test_a_trace_can_be_continued(db: varve.Varve, sdk: Sdk) -> None:
    """``trace_context`` is what a tracer takes as ``context``, tracestate included."""
    notes = db.stream("notes", Note)
    with sdk.tracer.start_as_current_span("checkout") as span:
        notes.append(1, Note(1), metadata=trace_metadata({"tracestate": "mine=1"}))
        assert trace_metadata({"traceparent": "mine"}) == {"traceparent": "mine"}
    recorded = next(notes.reader().iter_stream(1))
    context = trace_context(recorded)
    found = trace.get_current_span(context).get_span_context()
    assert (found.trace_id, found.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)
    assert found.trace_state.get("mine") == "1"  # what is given stays


def test_without_a_span_metadata_stays_as_it_is() -> None:
    """Nothing is added, and None stays None: the append stays of the shortest kind."""
    assert trace_metadata() is None
    assert trace_metadata({}) == {}
    given = {"user": "ada"}
    assert trace_metadata(given) == given


@pytest.mark.parametrize("wrong", ["text", 7, [("a", 1)]])
def test_metadata_that_is_no_mapping_is_refused(wrong: Any) -> None:
    """As an append refuses it."""
    with pytest.raises(varve.InvalidInput, match="mapping"):
        trace_metadata(wrong)
