"""Every error that Forebay raises, sorted by whose move is next. Nothing in a message is ever a secret.

ForebayError
├── UsageError               the calling code must change
│   ├── SettingsError        a variable, URL or argument cannot be read (ValueError)
│   ├── InvalidKey           a key that Redis should not be given (ValueError)
│   ├── InvalidNamespace     a namespace or prefix that would meet another's keys (ValueError)
│   ├── InvalidDuration      a lifetime or timeout that is no time (ValueError)
│   ├── InvalidCommand       an argument that is not text, bytes or a number (TypeError)
│   ├── CrossSlot            keys of several cluster slots in one command that cannot be split (ValueError)
│   ├── EncodeError          a value that would not come back as it went in (ValueError)
│   ├── MissingTTL           a write without a lifetime (TypeError)
│   ├── InvalidRate          a rate that cannot be read, or counted exactly (ValueError)
│   ├── InvalidCost          a cost that no limit of this rate could ever let through (ValueError)
│   ├── RecursiveLoad        a loader that waits for itself
│   └── Closed               the bay was closed before this call
├── CacheMiss                no such entry (KeyError)
├── DecodeError              the stored bytes are not what this cache stores (ValueError)
├── SessionNotFound          no such session: unknown, ended, destroyed or malformed, nobody is told which (KeyError)
├── SessionGone              the session ended or was destroyed while it was in use; nothing was stored
├── SessionConflict          somebody else saved the session meanwhile; nothing was stored
├── AuthenticationRequired   nobody is logged in, or not lately enough
├── AccessTokenInvalid       no access token of ours, or no longer valid
│   └── AccessTokenRevoked   it would be valid, and was revoked
├── RefreshTokenInvalid      no such refresh token: unknown, ended, revoked or malformed, nobody is told which
│   └── RefreshTokenReused   it was used before: somebody has a copy, so its whole family is revoked
├── TooManySessions          the user has as many sessions as may be
├── RateLimited              a limit is reached; `verdict` says when there is room again
├── LoaderCancelled          the shared load was cancelled from inside
├── SourceChanged            a resumed warming whose source does not begin as it did
├── LoaderTimeout            the loader took longer than its hard_timeout (TimeoutError)
├── Unavailable              the server or the way to it; the same call may succeed later
│   ├── ConnectFailed        no connection could be opened: the command was not sent
│   │   └── CircuitOpen      the node failed again and again, and is left alone for a moment
│   ├── OutcomeUnknown       the command was sent and no reply came: it may have run
│   │   ├── ConnectionLost   the connection broke while the reply was awaited
│   │   └── DeadlineExceeded no reply in time (TimeoutError)
│   ├── Overloaded           no room on a connection in time: the command was not sent
│   └── Refused              the server answers, but not now (LOADING, READONLY, ...): it did not run
│       └── Redirected       another node of the cluster holds the key (MOVED, ASK)
├── ServerError              the server understood and said no; `code` is its first word
│   ├── Refused              (the same class: it is both)
│   └── NoScript             the script is not loaded
├── ProtocolViolation        bytes that no healthy server sends; the connection was dropped
└── ServerStartFailed        the embedded server did not come up
"""

from __future__ import annotations

from typing import Any


class ForebayError(Exception):
    """The base of every error that Forebay raises."""


class UsageError(ForebayError):
    """The call itself is wrong; repeating it cannot help."""


class SettingsError(UsageError, ValueError):
    """A setting cannot be read. The message names the variable and its value, never a password."""


class InvalidKey(UsageError, ValueError):
    """A cache key is empty, too long, of the wrong type, or holds control characters."""


class InvalidNamespace(UsageError, ValueError):
    """A namespace or prefix is malformed, or reserved for another part of Forebay."""


class InvalidDuration(UsageError, ValueError):
    """A lifetime or timeout is not a duration, not above zero, or absurdly long."""


class InvalidCommand(UsageError, TypeError):
    """A command has an argument that is neither text, bytes nor a number."""


class CrossSlot(UsageError, ValueError):
    """Keys of several cluster slots in one command or transaction. A common ``{tag}`` in the keys puts them into one slot."""


class EncodeError(UsageError, ValueError):
    """A value cannot be stored so that reading it gives the same value. Nothing was sent."""


class MissingTTL(UsageError, TypeError):
    """A write names no lifetime, and its cache has none. ``ttl=None`` spells out "for ever"."""


class InvalidRate(UsageError, ValueError):
    """A rate such as ``100/minute`` cannot be read, or is too large to be counted exactly. The message names the place."""


class InvalidCost(UsageError, ValueError):
    """A cost is no whole number from 1 on, or is above what the limit lets through at once: it could never pass."""


class RecursiveLoad(UsageError):
    """A loader asked the cache for the very key that it is loading, and would wait for itself."""


class Closed(UsageError):
    """The bay (or its embedded server) has been closed."""


class CacheMiss(ForebayError, KeyError):
    """There is no entry under this key."""

    def __init__(self, namespace: str, key: object) -> None:
        super().__init__(namespace, key)
        self.namespace = namespace
        self.key = key

    def __str__(self) -> str:
        return f"cache {self.namespace!r} has no entry for key {self.key!r}"


class SessionNotFound(ForebayError, KeyError):
    """There is no such session. Whether it never was, ended, was destroyed, or is malformed, is nobody's to know."""

    def __str__(self) -> str:
        return "there is no such session"


class SessionGone(ForebayError):
    """The session ended or was destroyed while this request held it. Nothing was stored, and it does not come back."""


class SessionConflict(ForebayError):
    """The session was saved by somebody else since it was loaded. Nothing was stored; load it again, and decide anew."""


class AuthenticationRequired(ForebayError):
    """The request needs a user who is logged in, or who was asked for proof lately. The middleware answers 401."""

    status_code = 401


class TooManySessions(ForebayError):
    """The user has ``max_per_user`` sessions, and the policy is to refuse another."""


class RateLimited(ForebayError):
    """A limit is reached, and there is no room in time; there is in ``retry_after`` seconds. The middleware answers 429.

    ``verdict`` is the `forebay.Verdict` about it; None if it was a slot that was wanted.
    """

    status_code = 429

    def __init__(self, message: str, verdict: Any = None, retry_after: float | None = None) -> None:
        super().__init__(message, verdict, retry_after)
        self.verdict = verdict
        self.retry_after: float = verdict.retry_after if retry_after is None and verdict is not None else retry_after or 1.0

    def __str__(self) -> str:
        return str(self.args[0])


class AccessTokenInvalid(ForebayError):
    """The text is no access token of this service, or its time is over. Answer 401; the client comes back with another."""

    status_code = 401


class AccessTokenRevoked(AccessTokenInvalid):
    """The access token is good in itself, and was revoked, by its own id or with all that came from one login."""


class RefreshTokenInvalid(ForebayError):
    """There is no such refresh token. Whether it never was, ended, was revoked, or is malformed, is nobody's to know."""

    status_code = 401


class RefreshTokenReused(RefreshTokenInvalid):
    """The refresh token was used before, so two have it: all tokens of that login are revoked. The user must log in again."""


class DecodeError(ForebayError, ValueError):
    """The stored bytes are damaged, or were written for another type."""


class LoaderCancelled(ForebayError):
    """The loader cancelled itself; those who waited for its value were not cancelled."""


class SourceChanged(ForebayError):
    """The source of a resumed warming does not begin as it did. The checkpoint was dropped: the same call starts from the beginning."""


class LoaderTimeout(ForebayError, TimeoutError):
    """The loader did not return within ``hard_timeout``. Nothing was stored."""


class Unavailable(ForebayError):
    """The server cannot be reached or does not answer. The same call may succeed later.

    ``waited`` is for how many seconds the command had been under way, where that is known; ``final`` says that all repeats
    which were safe have been made.
    """

    waited: float = 0.0
    final: bool = False


class ConnectFailed(Unavailable):
    """No connection could be opened; the message names the address and the cause."""


class CircuitOpen(ConnectFailed):
    """The node failed several times in a row. Calls fail at once until a probe has found it well."""


class OutcomeUnknown(Unavailable):
    """The command was sent and no reply came: it may or may not have run. It was not repeated, for it might run twice."""


class ConnectionLost(OutcomeUnknown):
    """The connection broke while a reply was awaited. The command may or may not have run."""


class DeadlineExceeded(OutcomeUnknown, TimeoutError):
    """No reply arrived in time. The command may or may not have run."""


class Overloaded(Unavailable):
    """No connection had room in time. The command was not sent."""


class ServerError(ForebayError):
    """The server answered with an error. ``code`` is its first word, such as ``WRONGTYPE``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]


class Refused(ServerError, Unavailable):
    """The server is up and cannot serve this now (``LOADING``, ``READONLY``, ``OOM``, ...). The command did not run."""


class Redirected(Refused):
    """Another node of the cluster holds the slot. It reaches a caller only if no node would take the command in time."""

    @property
    def asking(self) -> bool:
        """Whether the slot is on the move, and the other node must be told ``ASKING`` first."""
        return self.code == "ASK"

    @property
    def slot(self) -> int:
        """The slot that the server named."""
        return int(self.args[0].split()[1])

    @property
    def node(self) -> str:
        """The node to ask, as the server announced it: ``host:port``."""
        return str(self.args[0].split()[2])


class NoScript(ServerError):
    """The server does not hold the script; sending its source loads it."""


class ProtocolViolation(ForebayError):
    """The peer sent bytes that are not a reply to anything asked. Its connection is dropped."""


class ServerStartFailed(ForebayError):
    """The embedded server could not be found or did not start."""
