"""Chat sessions held in memory as plain objects, every change an event: killed at any moment, the server knows all that it said.

python examples/chat_sessions.py [FOLDER]    (a temporary folder by default)
"""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import varve

# -- the state: objects as one would write them without any store ------------------------------------------------------


@varve.event
class Message:
    """One line of a conversation. Events are values: state may hold them as they are."""

    role: str
    text: str
    at: datetime


@dataclass
class Session:
    """A conversation of a user."""

    user: str
    last_used: datetime
    messages: list[Message] = field(default_factory=list[Message])
    tags: set[str] = field(default_factory=set[str])

    def to_snapshot(self) -> Any:
        """What a snapshot holds of it."""
        return self.user, self.last_used, self.messages, self.tags

    @classmethod
    def from_snapshot(cls, value: Any) -> Self:
        """The session again."""
        return cls(*value)


Sessions = dict[UUID, Session]

# -- the commands: what may happen to it -------------------------------------------------------------------------------


def now() -> datetime:
    """The clock is asked when a command is made, never when it is applied: a replay must see the same time."""
    return datetime.now(UTC)


class NoSuchSession(LookupError):
    """It never was, or it has expired."""


@varve.event
class OpenSession:
    """Begin a conversation. Its id is part of the command, as everything is that cannot be worked out again."""

    user: str
    session: UUID = dataclasses.field(default_factory=uuid4)
    at: datetime = dataclasses.field(default_factory=now)

    def apply(self, sessions: Sessions) -> UUID:
        """Add the session."""
        sessions[self.session] = Session(self.user, self.at)
        return self.session


@varve.event
class Say:
    """Add a line to a conversation."""

    session: UUID
    role: str
    text: str
    at: datetime = dataclasses.field(default_factory=now)

    def check(self, sessions: Sessions) -> None:
        """Refuse what belongs to no session. Nothing is written then."""
        if self.session not in sessions:
            raise NoSuchSession(str(self.session))

    def apply(self, sessions: Sessions) -> int:
        """Add the message; how many there are."""
        session = sessions[self.session]
        session.messages.append(Message(self.role, self.text, self.at))
        session.tags |= {word for word in self.text.split() if word.startswith("#")}
        session.last_used = self.at
        return len(session.messages)


@varve.event
class ExpireSessions:
    """Forget what nobody has used for long."""

    idle_seconds: varve.u32
    at: datetime = dataclasses.field(default_factory=now)

    def apply(self, sessions: Sessions) -> int:
        """Drop them; how many."""
        since = self.at - timedelta(seconds=self.idle_seconds)
        gone = [key for key, session in sessions.items() if session.last_used < since]
        for key in gone:
            del sessions[key]
        return len(gone)


def chat(folder: Path) -> varve.PrevalentSystem[Sessions]:
    """The system: its store is opened with it, and closed with it."""
    return varve.PrevalentSystem(
        folder,
        "chat",
        initial=Sessions,
        commands=[OpenSession, Say, ExpireSessions],
        classes=[Session, Message],
        snapshot_every=1_000,
    )


# -- a server that is killed, and its successor ------------------------------------------------------------------------


def serve_and_die(folder: Path) -> None:
    """Talk a little, and be gone without a word."""
    system = chat(folder)
    session = system.execute(OpenSession("ada"))
    system.execute(Say(session, "user", "how do I keep my #events ?"))
    count = system.execute(Say(session, "assistant", "in a log: #append only"))
    print(f"first server: {count} messages, and killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> None:
    """Begin, be killed, go on."""
    subprocess.run([sys.executable, __file__, "serve", folder], check=False)
    with chat(folder) as system:
        session, texts, tags = system.query(
            lambda sessions: next(
                (key, [message.text for message in one.messages], sorted(one.tags)) for key, one in sessions.items()
            )
        )
        print(f"second server: {len(texts)} messages, tags {' '.join(tags)}")
        for text in texts:
            print(f"  {text}")
        print(f"goes on: message {system.execute(Say(session, 'user', 'thanks'))}")
        try:
            system.execute(Say(uuid4(), "user", "is anybody there?"))
        except NoSuchSession:
            print("refused: a message to a session that is not there")
        system.snapshot()
        system.execute(OpenSession("grace"))
        expired = system.execute(ExpireSessions(60, at=now() + timedelta(hours=1)))
        print(f"expired an hour later: {expired} sessions, {system.query(len)} left")
        print(f"the log makes the same state: {system.verify()}")
    with chat(folder) as system:
        print(f"third server: began with the snapshot at {system.snapshot_position} of {system.position} commands")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve_and_die(Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary) / "chat")
