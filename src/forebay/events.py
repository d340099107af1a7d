"""Nothing fails silently: what is *reported* becomes a counter, an event for the hook, and a rate-limited log record."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from .forks import renew_after_fork

__all__ = [
    "CallbackFailed",
    "ConnectionDropped",
    "Event",
    "Hook",
    "InvalidationLost",
    "InvalidationQueued",
    "LimitEvent",
    "LimitShadowed",
    "LimitUndecided",
    "LimitUnreadable",
    "NameRefused",
    "NearTierOff",
    "ReadFailed",
    "RefreshFailed",
    "RefundFailed",
    "Reporter",
    "SessionItemLost",
    "SessionUnreadable",
    "SessionsMayBeEvicted",
    "SlotLost",
    "StaleServed",
    "SubscriptionInterrupted",
    "TrackingRefused",
    "Undecodable",
    "WentWithout",
    "WriteFailed",
]

logger: Final = logging.getLogger("forebay")


class Event(Struct, frozen=True):
    """Something that a caller was not told by an exception. ``cause`` is the error behind it."""

    cause: BaseException

    def describe(self) -> str:
        """Return one line for a log, without values and without secrets."""
        return f"{type(self).__name__}: {self.cause}"


class ConnectionDropped(Event, frozen=True):
    """A connection was given up; what was in flight on it has failed."""

    address: str

    def describe(self) -> str:
        return f"connection to {self.address} dropped: {self.cause}"


class WentWithout(Event, frozen=True):
    """The server refused something that a connection can do without."""

    address: str


class NameRefused(WentWithout, frozen=True):
    """The server would not take the connection's name; everything else works."""

    def describe(self) -> str:
        return f"{self.address} refused CLIENT SETNAME, connections stay unnamed there: {self.cause}"


class TrackingRefused(WentWithout, frozen=True):
    """The server would not tell of changed keys: there is no near tier, and who waits for a load asks now and then."""

    def describe(self) -> str:
        return f"{self.address} refused CLIENT TRACKING, so no near tier, and waiting by asking now and then: {self.cause}"


class SubscriptionInterrupted(Event, frozen=True):
    """A subscription lost its connection and is being renewed; messages published meanwhile are lost."""

    def describe(self) -> str:
        return f"subscription interrupted, subscribing anew: {self.cause}"


class CacheEvent(Event, frozen=True):
    """What events about one cache have in common."""

    namespace: str
    operation: str
    key: object

    @property
    def shown(self) -> str:
        """The key for a log; of many keys the first few."""
        if not isinstance(self.key, list):
            return str(self.key)
        few = ", ".join(map(str, self.key[:3]))
        return f"{few} and {len(self.key) - 3} more" if len(self.key) > 3 else few


class ReadFailed(CacheEvent, frozen=True):
    """A read was answered as a miss, because the server could not be asked."""

    def describe(self) -> str:
        return f"{self.operation} {self.namespace}:{self.shown} answered as a miss: {self.cause}"


class WriteFailed(CacheEvent, frozen=True):
    """A value was not stored; the caller has it all the same."""

    def describe(self) -> str:
        return f"{self.operation} {self.namespace}:{self.shown} was not stored: {self.cause}"


class Undecodable(CacheEvent, frozen=True):
    """A stored value could not be read, and was loaded anew."""

    def describe(self) -> str:
        return f"{self.operation} {self.namespace}:{self.shown} found a value that cannot be read, loading anew: {self.cause}"


class NearTierOff(Event, frozen=True):
    """A cache has no near tier, although one was asked for: nobody would tell of changes. Everything else works."""

    namespace: str

    def describe(self) -> str:
        return f"cache {self.namespace!r} has no near tier here: {self.cause}"


class StaleServed(CacheEvent, frozen=True):
    """The loader failed or was slow, and a stale value was returned."""

    def describe(self) -> str:
        return f"{self.operation} {self.namespace}:{self.shown} answered with a stale value: {self.cause}"


class InvalidationQueued(CacheEvent, frozen=True):
    """An invalidation could not reach the server and waits in the outbox; until it has, this process's caches load."""

    def describe(self) -> str:
        return f"{self.operation} {self.namespace}:{self.shown} waits in the outbox: {self.cause}"


class InvalidationLost(CacheEvent, frozen=True):
    """An invalidation never reached the server: what it should have removed may live until its ttl ends."""

    def describe(self) -> str:
        return f"{self.operation} {self.namespace}:{self.shown} was lost with the outbox: {self.cause}"


class CallbackFailed(CacheEvent, frozen=True):
    """A function that was to hear of changed keys or of operations raised; it is called again with the next."""

    def describe(self) -> str:
        return f"a callback of cache {self.namespace!r} failed: {self.cause}"


class RefreshFailed(CacheEvent, frozen=True):
    """A refresh in the background failed; it will be tried again."""

    def describe(self) -> str:
        return f"{self.namespace}:{self.shown} could not be refreshed: {self.cause}"


class SessionItemLost(Event, frozen=True):
    """An item of a session could not be read, and is as if it were not there. ``name`` is the item's."""

    name: str

    def describe(self) -> str:
        return f"session item {self.name!r} cannot be read: {type(self.cause).__name__}"


class SessionUnreadable(Event, frozen=True):
    """The hash of a session could not be read: it is as if there were none."""

    def describe(self) -> str:
        return f"a session cannot be read, and counts as none: {self.cause}"


class RefreshTokenCopied(Event, frozen=True):
    """A refresh token was used again after its time: somebody has a copy. Its login was revoked. ``handle`` names the login."""

    handle: str

    def describe(self) -> str:
        return f"a refresh token of login {self.handle[:8]} was used twice: the login is revoked"


class SessionsMayBeEvicted(Event, frozen=True):
    """The server evicts what has not been used for a while when its memory is full, sessions among it: users would be logged out."""

    def describe(self) -> str:
        return f"sessions may be lost: {self.cause}"


class LimitEvent(Event, frozen=True):
    """What events about one limiter have in common. ``key`` says who was meant; logs do not show it."""

    policy: str
    key: str


class LimitUndecided(LimitEvent, frozen=True):
    """The server could not be asked, and ``outcome``, which is the limiter's ``on_outage``, decided: open, closed or local."""

    outcome: str

    def describe(self) -> str:
        return f"limit {self.policy!r} could not be decided, {self.outcome} instead: {self.cause}"


class LimitShadowed(LimitEvent, frozen=True):
    """A limiter in shadow mode would have refused."""

    def describe(self) -> str:
        return f"limit {self.policy!r} is in shadow mode, and would have refused: {self.cause}"


class LimitUnreadable(LimitEvent, frozen=True):
    """The rates that are stored for a key of its own cannot be read; those of the limiter hold."""

    def describe(self) -> str:
        return f"limit {self.policy!r} has rates for one key that cannot be read, and uses its own: {self.cause}"


class RefundFailed(LimitEvent, frozen=True):
    """A cost was charged for what another limiter refused, and could not be given back: it is free again with time."""

    def describe(self) -> str:
        return f"limit {self.policy!r} charged what could not be given back: {self.cause}"


class SlotLost(LimitEvent, frozen=True):
    """The lease of a slot could not be renewed in time, and others may have the slot while its holder goes on."""

    def describe(self) -> str:
        return f"limit {self.policy!r} lost a slot while it was in use: {self.cause}"


Hook = Callable[[Event], None]
"""Receives every reported event, on the thread or loop where it happened. It must be quick and must not block."""


class Reporter:
    """Counts events, hands them to the hook, and logs at most one record a second for each kind."""

    LOG_EVERY: Final = 1.0

    def __init__(self, hook: Hook | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._hook = hook
        self._clock = clock
        self._lock = threading.Lock()
        renew_after_fork(self)
        self._counts: Counter[str] = Counter()
        self._logged: dict[str, tuple[float, int]] = {}

    def renew(self) -> None:
        """Take a new lock, in a forked child. Counts go on from the parent's."""
        self._lock = threading.Lock()

    def report(self, event: Event) -> None:
        """Report *event*. An error in the hook is logged, and never reaches the caller."""
        kind = type(event).__name__
        with self._lock:
            self._counts[kind] += 1
            due, suppressed = self._turn_to_log(kind)
        if due:
            more = f" ({suppressed} more of this kind since the last record)" if suppressed else ""
            logger.warning("%s%s", event.describe(), more)
        if self._hook is not None:
            try:
                self._hook(event)
            except Exception:
                logger.exception("the event hook failed on %s", kind)

    def counts(self) -> dict[str, int]:
        """Return how often each kind was reported."""
        with self._lock:
            return dict(self._counts)

    def _turn_to_log(self, kind: str) -> tuple[bool, int]:
        now = self._clock()
        last, suppressed = self._logged.get(kind, (float("-inf"), 0))
        if now - last < self.LOG_EVERY:
            self._logged[kind] = (last, suppressed + 1)
            return False, 0
        self._logged[kind] = (now, 0)
        return True, suppressed
