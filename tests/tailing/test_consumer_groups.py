"""Members share a consumer by streams: nothing lost, nothing twice but what was not committed, order kept."""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import varve
from varve.testing import temporary_store

sys.path.insert(0, str(Path(__file__).parent))

from consumer_models import Placed, fill, open_db, there


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with open_db(varve_path) as store:
        yield store


def group(db: varve.Varve, members: int, **options: object) -> list[varve.Consumer[object]]:
    return [db.consumer("billing", member=at, members=members, **options) for at in range(members)]  # type: ignore[arg-type]


def together(shares: Iterable[list[int]]) -> list[int]:
    return sorted(chain.from_iterable(shares))


def end(consumers: list[varve.Consumer[object]]) -> None:
    for consumer in consumers:
        consumer.close()


def test_members_share_the_log_by_stream(db: varve.Varve) -> None:
    """Each event comes to one of them, those of a stream to the same one in their order."""
    fill(db, 500, ids=40)
    consumers = group(db, 3)
    given_to = [there(consumer) for consumer in consumers]
    assert together(given_to) == list(range(500))
    assert all(share == sorted(share) and share for share in given_to)
    owner_of = defaultdict(set)
    for member, share in enumerate(given_to):
        for sequence in share:
            owner_of[sequence % 40].add(member)
    assert all(len(owners) == 1 for owners in owner_of.values())
    assert [(consumer.member, consumer.members, consumer.committed) for consumer in consumers] == [
        (0, 3, 500), (1, 3, 500), (2, 3, 500),
    ]  # fmt: skip
    [info] = db.consumers()
    assert [(member.member, member.running, member.position) for member in info.members] == [
        (0, True, 500), (1, True, 500), (2, True, 500),
    ]  # fmt: skip


def test_one_who_lags_holds_back_the_group_s_position(db: varve.Varve) -> None:
    """The lowest counts, and each member continues with its own."""
    fill(db, 100, ids=40)
    consumers = group(db, 2, commit="manual")
    all_of_it = [there(consumer) for consumer in consumers]
    consumers[1].commit_blocking()
    end(consumers)
    assert (db.consumers()[0].position, db.consumers()[0].lag) == (0, 100)
    again = group(db, 2)
    assert [there(consumer) for consumer in again] == [all_of_it[0], []]


def test_the_number_changes_when_all_of_the_old_ones_are_gone(db: varve.Varve) -> None:
    """Until then whoever comes with another number is refused, so that no partition has two owners."""
    old = group(db, 2)
    for member, members in ((0, 1), (0, 3), (2, 3), (255, 256), (0, 2)):
        with pytest.raises(varve.ConsumerBusy, match="has 2 members now" if members != 2 else "member 0 of 2"):
            db.consumer("billing", member=member, members=members)
    with pytest.raises(varve.ConsumerBusy):
        db.consumer("billing")
    old[0].close()
    with pytest.raises(varve.ConsumerBusy):
        db.consumer("billing", member=0, members=3)
    old[1].close()
    new = group(db, 3)
    with pytest.raises(varve.ConsumerBusy):
        db.consumer("billing", member=0, members=2)
    end(new)
    with db.consumer("billing") as alone:
        assert alone.members == 1


def test_force_changes_the_number_and_fences_all_of_the_old_ones(db: varve.Varve) -> None:
    """Those, too, whose partitions nobody has taken yet."""
    fill(db, 50, ids=40)
    old = group(db, 2, commit="manual")
    for consumer in old:
        there(consumer)
    new = [db.consumer("billing", member=0, members=4, force=True)]
    for consumer in old:
        with pytest.raises(varve.ConsumerFenced):
            consumer.commit_blocking()
    new += [db.consumer("billing", member=member, members=4) for member in (1, 2, 3)]
    assert together(there(consumer) for consumer in new) == list(range(50))
    end(old)


def test_two_hundred_and_fifty_six_members(db: varve.Varve) -> None:
    """One partition each, the most there can be."""
    fill(db, 60, ids=60)
    consumers = group(db, 256)
    assert together(there(consumer) for consumer in consumers) == list(range(60))
    fill(db, 60, ids=60)
    end(consumers)
    with db.consumer("billing") as alone:
        assert sorted(there(alone)) == list(range(60, 120))


def test_a_member_seeks_for_its_own_share(db: varve.Varve) -> None:
    """The others stay where they are."""
    fill(db, 100, ids=40)
    one, two = group(db, 2)
    first, second = there(one), there(two)
    one.seek(50)
    assert there(one) == [sequence for sequence in first if sequence >= 50]
    one.seek(10)
    end([one, two])
    assert [member.position for member in db.consumers()[0].members] == [10, 100]
    with db.consumer("billing") as alone:
        assert there(alone) == [sequence for sequence in first if sequence >= 10]
    assert second


def test_a_filtered_member_moves_past_what_is_not_its_own(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing at all comes to it."""
    monkeypatch.setattr("varve.limits.CONSUMER_SCANNED_INTERVAL_S", 0)
    fill(db, 30, ids=1)
    members = group(db, 2)
    shares = [there(member) for member in members]
    assert sorted(map(len, shares)) == [0, 30]
    assert [member.committed for member in members] == [30, 30]


CHANGES = st.lists(
    st.tuples(
        st.integers(1, 6),  # members from now on
        st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, 40), st.booleans()), max_size=8
        ),  # who takes how many, commits
        st.integers(0, 60),  # events that come meanwhile
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(CHANGES)
def test_whatever_the_number_of_members_was_nothing_is_lost(
    changes: list[tuple[int, list[tuple[int, int, bool]], int]],
) -> None:
    """Repeats are what was given and not committed, never more; each stream comes in order."""
    with temporary_store(durability="relaxed") as db:
        orders = db.stream("orders", Placed)
        committed: set[int] = set()
        rng = random.Random(1)
        for members, steps, arriving in [*changes, (1, [(0, 10**6, True)], 0)]:
            count = db.next_global_sequence
            orders.append_many([(rng.randrange(30), Placed(count + n)) for n in range(arriving)])
            consumers = group(db, members, commit="manual")
            pending: dict[int, set[int]] = defaultdict(set)
            last_of: dict[object, int] = {}
            for member, events, commit in steps:
                consumer = consumers[member % members]
                for _, recorded in zip(range(events), consumer.follow(0), strict=False):
                    assert recorded.global_sequence not in committed
                    assert last_of.get(recorded.stream_id, -1) < recorded.global_sequence
                    last_of[recorded.stream_id] = recorded.global_sequence
                    pending[member % members].add(recorded.global_sequence)
                if commit:
                    consumer.commit_blocking()
                    committed |= pending.pop(member % members, set())
            end(consumers)
        assert committed == set(range(db.next_global_sequence))


def test_partitions_that_are_ahead_stay_ahead(db: varve.Varve) -> None:
    """One owner of all, some of whose partitions stand in the middle of a batch: its commits from further back leave them
    there, and what was done is not given again."""
    orders = db.stream("orders", Placed)
    for stream_id in range(20):
        orders.append_batch(stream_id, [Placed(n) for n in range(10)])
    for who in (0, 1):
        members = group(db, 2, commit="manual")
        ahead = members[who]
        done = [recorded.global_sequence for _, recorded in zip(range(33), ahead.follow(0), strict=False)]
        assert done[-1] % 10 not in {0, 9}
        ahead.commit_blocking()
        end(members)
        seen: list[int] = []
        for events in (1, 2, 7, 1_000):  # an owner after the other, each from where the last one stopped
            with db.consumer("billing", commit="manual") as alone:
                batch = [recorded.global_sequence for _, recorded in zip(range(events), alone.follow(0), strict=False)]
                alone.commit_blocking()
            seen += batch
        assert sorted(done + seen) == list(range(200))
        assert len(seen) == 200 - len(done)
        assert db.delete_consumer("billing")
