"""Prometheus' metrics of a store are what was done to it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import varve
from varve.integrations.metrics import METRICS
from varve.integrations.prometheus import PrometheusMetrics


@varve.event
class Note:
    number: varve.u64


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {"store": "shop", **labels})


def test_counters_and_histograms_are_what_was_done(db: varve.Varve, registry: CollectorRegistry) -> None:
    """Alone, in groups, refused, replayed: the sums agree with ``db.stats()``."""
    PrometheusMetrics(db, registry=registry, store="shop")
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(number) for number in range(10)], idempotency_key="k")
    notes.append_batch(1, [Note(number) for number in range(10)], idempotency_key="k")
    for _ in range(2):
        with pytest.raises(varve.WrongExpectedVersion):
            notes.append(1, Note(1), expected=0)

    async def main() -> None:
        await asyncio.gather(*(notes.append_async(number, Note(number)) for number in range(20)))

    asyncio.run(main())
    writes = db.stats().writes
    assert value(registry, "varve_commits_total") == writes.commits == 21
    assert value(registry, "varve_transactions_total") == writes.transactions
    assert value(registry, "varve_events_total") == writes.events == 30
    assert value(registry, "varve_event_bytes_total") == writes.event_bytes
    assert value(registry, "varve_commit_replays_total") == 1
    assert value(registry, "varve_commit_errors_total", code=varve.WrongExpectedVersion.code) == 2
    assert value(registry, "varve_commit_group_sum") == 21
    assert value(registry, "varve_commit_group_count") == writes.transactions
    assert value(registry, "varve_commit_duration_seconds_count") == writes.transactions
    assert value(registry, "varve_commit_duration_seconds_sum") == pytest.approx(writes.commit_s)
    assert value(registry, "varve_commit_wait_seconds_count") == writes.transactions
    assert value(registry, "varve_commit_preparation_seconds_count") == writes.transactions
    assert value(registry, "varve_commit_group_bucket", le="1.0") is not None


def test_gauges_are_the_stores(db: varve.Varve, registry: CollectorRegistry) -> None:
    """Read when scraped: sizes, readers, the age of snapshots."""
    PrometheusMetrics(db, registry=registry, store="shop")
    notes = db.stream("notes", Note)
    assert value(registry, "varve_snapshot_age_seconds") == 0
    with db.snapshot():
        notes.append(1, Note(1))
        stats = db.stats()
        age_s = value(registry, "varve_snapshot_age_seconds")
        assert age_s is not None
        assert age_s >= stats.snapshots[0].age_s > 0
        for name, expected in {
            "varve_next_sequence": 1,
            "varve_first_sequence": 0,
            "varve_streams": 1,
            "varve_blocks": 1,
            "varve_file_bytes": stats.file_bytes,
            "varve_file_used_bytes": stats.used_bytes,
            "varve_file_free_bytes": stats.free_bytes,
            "varve_map_use_ratio": stats.map_use,
            "varve_readers": 1,
            "varve_readers_max": stats.readers_max,
            "varve_reader_lag": 1,
            "varve_snapshots": 1,
            "varve_commits_waiting": 0,
        }.items():
            assert value(registry, name) == expected, name


def test_consumers_lag_and_batches(db: varve.Varve, registry: CollectorRegistry) -> None:
    """The lag is that of the stored position, of every consumer; what was handled is that of this handle's."""
    PrometheusMetrics(db, registry=registry, store="shop")
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(number) for number in range(10)])
    with db.consumer("mail", commit="manual") as consumer:
        assert value(registry, "varve_consumer_lag", consumer="mail") == 10
        assert value(registry, "varve_consumer_running", consumer="mail") == 1
        assert len(list(consumer.follow(timeout_s=0))) == 10
        consumer.commit_blocking()
    assert value(registry, "varve_consumer_lag", consumer="mail") == 0
    assert value(registry, "varve_consumer_running", consumer="mail") == 0
    assert value(registry, "varve_consumer_events_total", consumer="mail") == 10
    assert value(registry, "varve_consumer_batch_duration_seconds_count", consumer="mail") == 1


def test_stores_share_a_registry(tmp_path: Path, registry: CollectorRegistry) -> None:
    """Each name stands once in what is scraped, with a sample for each store; a name that is taken is refused."""
    with varve.open(tmp_path / "a") as one, varve.open(tmp_path / "b") as two:
        PrometheusMetrics(one, registry=registry, store="shop")
        with pytest.raises(varve.InvalidInput, match="'shop'"):
            PrometheusMetrics(two, registry=registry, store="shop")
        metrics = PrometheusMetrics(two, registry=registry)
        assert str(tmp_path / "b") in repr(metrics)
        one.stream("notes", Note).append(1, Note(1))
        two.stream("notes", Note).append_batch(1, [Note(1), Note(2)])
        text = generate_latest(registry).decode()
        assert text.count("# TYPE varve_next_sequence gauge") == 1
        families = {family.name: family for family in text_string_to_metric_families(text)}
        told = {sample.labels["store"]: sample.value for sample in families["varve_next_sequence"].samples}
        assert told == {"shop": 1, str(tmp_path / "b"): 2}
        assert {metric.prometheus_name for metric in METRICS} <= set(families)


def test_closed_metrics_stop(db: varve.Varve, registry: CollectorRegistry) -> None:
    """Gauges go, counters stay where they are, and the name is free again."""
    notes = db.stream("notes", Note)
    with PrometheusMetrics(db, registry=registry, store="shop") as metrics:
        notes.append(1, Note(1))
    notes.append(1, Note(2))
    metrics.close()
    assert value(registry, "varve_events_total") == 1
    assert value(registry, "varve_next_sequence") is None
    with PrometheusMetrics(db, registry=registry, store="shop"):
        notes.append(1, Note(3))
        metrics.close()  # the old one's: nothing happens to the new one
        assert value(registry, "varve_events_total") == 2
        assert value(registry, "varve_next_sequence") == 3


def test_a_closed_store_is_scraped_all_the_same(
    varve_path: Path, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Without gauges, without an error; metrics cannot be made for it."""
    db = varve.open(varve_path)
    metrics = PrometheusMetrics(db, registry=registry, store="shop")
    db.stream("notes", Note).append(1, Note(1))
    db.close()
    assert value(registry, "varve_next_sequence") is None
    assert value(registry, "varve_events_total") == 1
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
    metrics.close()
    with pytest.raises(varve.StoreClosed):
        PrometheusMetrics(db, registry=registry, store="shop")
    with varve.open(varve_path) as again:
        PrometheusMetrics(again, registry=registry, store="shop")  # what failed has left nothing behind


def test_metrics_do_not_keep_a_store_open(varve_path: Path, registry: CollectorRegistry) -> None:
    """A handle that was dropped goes; so does a registry."""
    db = varve.open(varve_path)
    metrics = PrometheusMetrics(db, registry=registry, store="shop")
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None
    assert value(registry, "varve_next_sequence") is None
    metrics.close()


def test_a_store_that_cannot_be_read_is_said_once(
    db: varve.Varve, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again after it could be read in between."""
    PrometheusMetrics(db, registry=registry, store="shop")

    def rotten(_: Any) -> list[Any]:
        raise varve.CorruptedStore("rot", path="here")

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(varve.Varve, "consumers", rotten)
            for _ in range(2):
                assert value(registry, "varve_next_sequence") is None
        assert value(registry, "varve_next_sequence") == 0
    assert [record.levelname for record in caplog.records if "cannot be read" in record.getMessage()] == ["WARNING"] * 2


def test_the_default_registry(db: varve.Varve) -> None:
    """Where none is given, what ``start_http_server`` serves has the store."""
    script_free = PrometheusMetrics(db)
    try:
        from prometheus_client import REGISTRY

        assert REGISTRY.get_sample_value("varve_next_sequence", {"store": db.path}) == 0
    finally:
        script_free.close()


@pytest.mark.parametrize("store", ["", 7, b"x"])
def test_a_label_that_is_none_is_refused(db: varve.Varve, registry: CollectorRegistry, store: Any) -> None:
    """It is a str with something in it."""
    with pytest.raises(varve.InvalidInput, match="store"):
        PrometheusMetrics(db, registry=registry, store=store)


def test_what_is_no_store_is_refused(registry: CollectorRegistry) -> None:
    """Such as its path."""
    wrong: Any = "./shop"
    with pytest.raises(varve.InvalidInput, match=r"varve\.open"):
        PrometheusMetrics(wrong, registry=registry)


_WITHOUT = """
import sys
sys.modules[{package!r}] = None
import varve
from varve.integrations import prometheus, opentelemetry
with varve.open(sys.argv[1]) as db:
    for make in (prometheus.PrometheusMetrics, opentelemetry.Telemetry):
        try:
            make(db).close()
        except varve.MissingExtra as error:
            print(error.extra, error)
"""


@pytest.mark.parametrize(
    ("package", "extra"), [("prometheus_client", "prometheus"), ("opentelemetry", "opentelemetry")]
)
def test_a_missing_extra_says_what_to_install(tmp_path: Path, package: str, extra: str) -> None:
    """Importing the integration works, using it is a ``MissingExtra``; the other one is not touched by that."""
    finished = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(package=package), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = finished.stdout.splitlines()
    assert line.startswith(extra)
    assert f"pip install 'varve-store[{extra}]'" in line


def test_what_is_no_integration_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="statsd"):
        varve.integrations.statsd  # type: ignore[attr-defined]  # noqa: B018


def test_the_page_has_every_metric() -> None:
    """docs/observability.md lists name, kind, unit, label and help of each, and none besides."""
    page = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `") and "| `varve_" in line]
    assert rows == [
        f"| `{metric.name.removeprefix('varve.')}` | `{metric.prometheus_name}{'_total' * (metric.kind == 'counter')}` "
        f"| {metric.kind} | {metric.unit} | {metric.label} | {metric.help} |"
        for metric in METRICS
    ]
