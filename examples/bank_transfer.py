"""One transaction over two streams: money leaves one account and arrives at another, or nothing happens at all.

python examples/bank_transfer.py [FOLDER]    (a temporary folder by default)
"""

import sys
import tempfile
from pathlib import Path

import varve


@varve.event
class Deposited:
    """Money arrived; ``amount`` is in cents."""

    amount: varve.u64
    reference: str


@varve.event
class Withdrawn:
    """Money left; ``amount`` is in cents."""

    amount: varve.u64
    reference: str


AccountEvent = Deposited | Withdrawn


class InsufficientFunds(Exception):
    """The account does not hold what should leave it."""


def balance(accounts: varve.Stream[AccountEvent], owner: str) -> tuple[int, int]:
    """Fold an account's events into its balance in cents, and say how many events that were."""
    cents = version = 0
    for recorded in accounts.reader().iter_stream(owner):
        event = recorded.event
        cents += event.amount if isinstance(event, Deposited) else -event.amount
        version += 1
    return cents, version


def transfer(db: varve.Varve, accounts: varve.Stream[AccountEvent], source: str, target: str, amount: int) -> None:
    """Move money. The source must be as it was when its balance was read: nobody may have spent the money meanwhile."""
    cents, version = balance(accounts, source)
    if cents < amount:
        raise InsufficientFunds(f"{source} has {cents / 100:.2f}, not {amount / 100:.2f}")
    commit_transfer(db, accounts, source, target, amount, version)


def commit_transfer(
    db: varve.Varve, accounts: varve.Stream[AccountEvent], source: str, target: str, amount: int, version: int
) -> None:
    """Write both sides in one atomic commit, if the source holds ``version`` events and the target exists."""
    reference = f"{source} to {target}"
    with db.transaction() as tx:
        tx.append(accounts, source, Withdrawn(amount, reference), expected=version)
        tx.append(accounts, target, Deposited(amount, reference), expected=varve.STREAM_EXISTS)


def main(path: Path) -> None:
    """Transfer money once for good, and three times in vain."""
    with varve.open(path) as db:
        accounts = db.stream("accounts", Deposited | Withdrawn)

        def show(what: str) -> None:
            balances = ", ".join(f"{owner} {balance(accounts, owner)[0] / 100:.2f}" for owner in ("alice", "bob"))
            print(f"{what}: {balances} ({db.next_global_sequence} events)")

        accounts.append("alice", Deposited(100_00, "opening"), expected=varve.NO_STREAM)
        accounts.append("bob", Deposited(20_00, "opening"), expected=varve.NO_STREAM)
        show("opened")

        transfer(db, accounts, "alice", "bob", 30_00)
        show("transferred")

        try:
            transfer(db, accounts, "bob", "alice", 500_00)
        except InsufficientFunds as refusal:
            show(f"refused, {refusal}")

        # Alice's balance was read at version 1, before the transfer above: the whole transaction is refused.
        try:
            commit_transfer(db, accounts, "alice", "bob", 90_00, version=1)
        except varve.WrongExpectedVersion as conflict:
            show(f"refused, {conflict.stream_id} holds {conflict.actual} events and not {conflict.expected}")

        # The first append of this transaction was fine; carol has no account, so it is not written either.
        try:
            transfer(db, accounts, "alice", "carol", 10_00)
        except varve.WrongExpectedVersion as conflict:
            show(f"refused, {conflict.stream_id} has no account")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder, "store"))
