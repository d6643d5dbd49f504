"""What becomes of an event whose handler failed.

A strategy is asked after each failed attempt and says what to do: stop, go on without the event, keep it as a dead letter, or
try again in a while. Ours are values; any function of the event, the error and the number of failed attempts is one, too, and
may answer with another strategy, which is asked in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from varve.derived.processors.backoff import Wait, check_seconds, exponential_wait
from varve.errors import InvalidInput
from varve.record import Recorded

_DEPTH_MAX: Final = 16
"""Strategies that answer with strategies."""


@dataclass(frozen=True, slots=True)
class FailFast:
    """Stop the processor: ``ProcessorFailed`` is raised, and the position stays before the event."""

    def __call__(self, recorded: Recorded[Any], error: Exception, attempt: int) -> Decision:  # noqa: ARG002
        """What to do."""
        return self


@dataclass(frozen=True, slots=True)
class Skip:
    """Go on without the event; logged as a warning (logger ``varve``)."""

    def __call__(self, recorded: Recorded[Any], error: Exception, attempt: int) -> Decision:  # noqa: ARG002
        """What to do."""
        return self


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Keep the event as a dead letter, durably, in the commit that moves the position past it: ``processor.dead_letters``."""

    park: bool = False
    """Let later events of the same stream wait behind it, in order, until it was retried or dropped."""

    def __call__(self, recorded: Recorded[Any], error: Exception, attempt: int) -> Decision:  # noqa: ARG002
        """What to do."""
        return self


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try the event again in so many seconds: what ``Retry`` answers, and strategies of your own may. The position stays, and
    no transaction is held meanwhile."""

    seconds: float


Decision = FailFast | Skip | DeadLetter | RetryIn
"""What a strategy comes to."""

Strategy = Callable[[Recorded[Any], Exception, int], Any]
"""Gives a ``Decision`` for an event, the error, and the number of attempts that failed so far (from 1 on); or another strategy,
to be asked in its place."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, and leave it to ``then`` when that was in vain."""

    attempts: int = 5
    """Calls of the handler in all, the first one counted."""
    wait: Wait = field(default_factory=exponential_wait)
    """Seconds to wait after so many failed attempts: ``varve.fixed_wait``, ``varve.exponential_wait``, or any function."""
    then: Strategy = field(default_factory=FailFast)
    """What is asked after the last attempt, and at once about errors that are not of ``on``."""
    on: type[Exception] | tuple[type[Exception], ...] = Exception
    """Errors that trying again may help against."""

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise InvalidInput(f"attempts is a number of calls from 1 on, not {self.attempts!r}")
        if not callable(self.wait):
            raise InvalidInput(
                "wait is a function of the failed attempts that gives seconds, such as varve.fixed_wait(1), not "
                f"{self.wait!r:.80}"
            )
        check_strategy(self.then, "then")
        kinds = self.on if isinstance(self.on, tuple) else (self.on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise InvalidInput(f"on is an exception class or a tuple of them, not {self.on!r:.80}")

    def __call__(self, recorded: Recorded[Any], error: Exception, attempt: int) -> Any:
        """What to do."""
        if attempt < self.attempts and isinstance(error, self.on):
            return RetryIn(self.wait(attempt))
        return self.then(recorded, error, attempt)


def check_strategy(strategy: Any, name: str = "strategy") -> Strategy:
    """A strategy, checked. Raises ``InvalidInput``."""
    if isinstance(strategy, type) or not callable(strategy):
        raise InvalidInput(
            f"{name} is a strategy such as varve.FailFast(), or a function of event, error and attempt, not {strategy!r:.80}"
        )
    checked: Strategy = strategy
    return checked


def decide(strategy: Strategy, recorded: Recorded[Any], error: Exception, attempt: int) -> Decision:
    """What becomes of an event. Raises ``InvalidInput`` where the strategy does not say, and what it raises."""
    asked: Any = strategy
    for _ in range(_DEPTH_MAX):
        answer = asked(recorded, error, attempt)
        if isinstance(answer, RetryIn):
            return RetryIn(check_seconds("what a strategy's wait gives", answer.seconds))
        if isinstance(answer, FailFast | Skip | DeadLetter):
            return answer
        if not callable(answer) or isinstance(answer, type):
            raise InvalidInput(
                f"a strategy answers with varve.FailFast(), Skip(), DeadLetter(), RetryIn(seconds) or another strategy, not "
                f"{answer!r:.80}"
            )
        asked = answer
    raise InvalidInput(f"{_DEPTH_MAX} strategies in a row answered with yet another strategy")
