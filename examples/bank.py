"""A bank whose balances stand beside its log: no account below its overdraft limit, whatever many tellers do at once.

python examples/bank.py [FOLDER]    (a temporary folder by default)
"""

import random
import sys
import tempfile
import threading
from pathlib import Path

import varve


@varve.event
class Deposited:
    """Money arrived; ``amount`` is in cents."""

    amount: varve.u64


@varve.event
class Withdrawn:
    """Money left; ``amount`` is in cents."""

    amount: varve.u64


AccountEvent = Deposited | Withdrawn
Accounts = varve.Stream[AccountEvent]

ACCOUNTS = ("anna", "bob", "carol", "dave")
OVERDRAFT = 100_00
"""No balance goes below this many cents in the red."""


def deposit(db: varve.Varve, accounts: Accounts, account: str, amount: int) -> None:
    """An addition needs no look at the balance: it never conflicts, however many are made at once."""
    with db.transaction() as tx:
        tx.state.add(("balance", account), amount)
        tx.append(accounts, account, Deposited(amount))


def withdraw(db: varve.Varve, accounts: Accounts, account: str, amount: int) -> None:
    """The overdraft rule is the lower bound of the addition, checked inside the commit: event and balance, or neither."""
    with db.transaction() as tx:
        tx.require_exists(("balance", account))
        tx.state.add(("balance", account), -amount, min=-OVERDRAFT)
        tx.append(accounts, account, Withdrawn(amount))


def transfer(db: varve.Varve, accounts: Accounts, source: str, target: str, amount: int) -> bool:
    """A decision that reads both balances; it is made again where somebody has changed one of them meanwhile."""

    def decide(tx: varve.Transaction) -> bool:
        here, there = tx.state.get(("balance", source)), tx.state.get(("balance", target))
        if here - amount < -OVERDRAFT:
            return False
        tx.state.put(("balance", source), here - amount)
        tx.state.put(("balance", target), there + amount)
        tx.append(accounts, source, Withdrawn(amount))
        tx.append(accounts, target, Deposited(amount))
        tx.ensure(lambda state: state.get(("balance", source)) >= -OVERDRAFT)
        return True

    return db.optimistic(decide)


def work(db: varve.Varve, accounts: Accounts, seed: int, refused: list[str]) -> None:
    """One teller's day: transfers at random."""
    rng = random.Random(seed)  # noqa: S311 - what is drawn is play money
    for _ in range(25):
        source, target = rng.sample(ACCOUNTS, 2)
        if not transfer(db, accounts, source, target, rng.randrange(1_00, 200_00)):
            refused.append(source)


def folded(accounts: Accounts, account: str) -> int:
    """The balance as the events say it."""
    events = (recorded.event for recorded in accounts.reader().iter_stream(account))
    return sum(event.amount if isinstance(event, Deposited) else -event.amount for event in events)


def in_all(db: varve.Varve) -> int:
    """The sum of all balances, as of one instant."""
    return sum(cents for _, cents in db.state.scan_prefix(("balance",)))


def main(folder: Path) -> None:
    """Open accounts, break the rule in vain, let eight tellers loose, and hold the balances against the events."""
    with varve.open(folder) as db:
        accounts = db.stream("accounts", AccountEvent)
        for account in ACCOUNTS:
            if not db.state.exists(("balance", account)):  # in a folder of an earlier run the bank goes on
                deposit(db, accounts, account, 500_00)

        withdraw(db, accounts, "anna", db.state.get(("balance", "anna")) + OVERDRAFT)
        print(f"anna has {db.state.get(('balance', 'anna')) / 100:.2f}, which is as far as it goes")
        try:
            withdraw(db, accounts, "anna", 1)
        except varve.NumberOutOfRange as error:
            print(f"one cent more is refused: {error.value} would become {error.result}, below {error.bound}")
        try:
            withdraw(db, accounts, "nobody", 1)
        except varve.CheckFailed as error:
            print(f"nobody has no account: {error.check} of {error.key} failed")

        before, total = db.next_global_sequence, in_all(db)
        refused: list[str] = []
        tellers = [threading.Thread(target=work, args=(db, accounts, seed, refused)) for seed in range(8)]
        for teller in tellers:
            teller.start()
        for teller in tellers:
            teller.join()
        transfers = (db.next_global_sequence - before) // 2
        print(f"8 tellers: {transfers + len(refused)} transfers decided")

        balances = {key[1]: cents for key, cents in db.state.scan_prefix(("balance",))}
        print(f"in all {in_all(db) / 100:.2f}, {'as before' if in_all(db) == total else 'which is wrong'}")
        print(f"no account is below {-OVERDRAFT / 100:.2f}: {min(balances.values()) >= -OVERDRAFT}")
        print(f"each balance is what its events say: {all(folded(accounts, one) == balances[one] for one in ACCOUNTS)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made) / "store")
