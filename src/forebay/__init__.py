"""Forebay keeps a web application's hot state in front of its database, on Redis or Valkey: for asyncio and for threads.

Every public name is here, and is imported when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bay import AsyncForebay, Forebay
    from .cache.cache import AsyncCache, Cache
    from .cache.freshness import FreshnessOptions
    from .cache.making import CacheOptions
    from .cache.tally import CacheStats
    from .cache.warmup import WarmFailure, WarmReport
    from .codecs.compressed import train_dictionary
    from .codecs.sealed import new_sealing_key
    from .commands import AsyncSubscription, BoundAsyncScript, BoundScript, Subscription
    from .durations import Duration
    from .errors import (
        AccessTokenInvalid,
        AccessTokenRevoked,
        AuthenticationRequired,
        CacheMiss,
        CircuitOpen,
        Closed,
        ConnectFailed,
        ConnectionLost,
        CrossSlot,
        DeadlineExceeded,
        DecodeError,
        EncodeError,
        ForebayError,
        InvalidCommand,
        InvalidCost,
        InvalidDuration,
        InvalidKey,
        InvalidNamespace,
        InvalidRate,
        LoaderCancelled,
        LoaderTimeout,
        MissingTTL,
        NoScript,
        OutcomeUnknown,
        Overloaded,
        ProtocolViolation,
        RateLimited,
        RecursiveLoad,
        Redirected,
        RefreshTokenInvalid,
        RefreshTokenReused,
        Refused,
        ServerError,
        ServerStartFailed,
        SessionConflict,
        SessionGone,
        SessionNotFound,
        SettingsError,
        SourceChanged,
        TooManySessions,
        Unavailable,
        UsageError,
    )
    from .events import (
        CallbackFailed,
        ConnectionDropped,
        Event,
        InvalidationLost,
        InvalidationQueued,
        LimitEvent,
        LimitShadowed,
        LimitUndecided,
        LimitUnreadable,
        NameRefused,
        NearTierOff,
        ReadFailed,
        RefreshFailed,
        RefreshTokenCopied,
        RefundFailed,
        SessionItemLost,
        SessionsMayBeEvicted,
        SessionUnreadable,
        SlotLost,
        StaleServed,
        SubscriptionInterrupted,
        TrackingRefused,
        Undecodable,
        WriteFailed,
    )
    from .keys import Key
    from .operations import FillRefused, Hit, Invalidated, Loaded, LoadFailed, Miss, Operation, Refreshed
    from .ratelimit.limiter import AsyncLimiter, Limiter
    from .ratelimit.options import LimitOptions
    from .ratelimit.rate import Rate
    from .ratelimit.slots import Slot
    from .ratelimit.tally import LimitStats
    from .ratelimit.verdict import Decision, Standing, Verdict
    from .sessions.core import SessionInfo
    from .sessions.options import SessionOptions
    from .sessions.record import Device
    from .sessions.session import Session
    from .sessions.sessions import AsyncSessions, Sessions
    from .settings import Settings
    from .stats import Stats
    from .tokens.core import AccessToken, TokenPair
    from .tokens.options import TokenOptions
    from .tokens.tokens import AsyncTokens, Tokens
    from .wire.embedded import EmbeddedServer
    from .wire.latency import LatencyStats
    from .wire.stats import NodeStats, WireStats
    from .wire.subscription import Message

    __version__: str

_HOMES = {
    "bay": "AsyncForebay Forebay",
    "cache.cache": "AsyncCache Cache",
    "cache.freshness": "FreshnessOptions",
    "cache.making": "CacheOptions",
    "cache.tally": "CacheStats",
    "cache.warmup": "WarmFailure WarmReport",
    "codecs.compressed": "train_dictionary",
    "codecs.sealed": "new_sealing_key",
    "durations": "Duration",
    "errors": """
        AccessTokenInvalid AccessTokenRevoked AuthenticationRequired CacheMiss CircuitOpen Closed ConnectFailed ConnectionLost
        CrossSlot DeadlineExceeded DecodeError EncodeError ForebayError InvalidCommand InvalidCost InvalidDuration InvalidKey
        InvalidNamespace InvalidRate LoaderCancelled LoaderTimeout MissingTTL NoScript OutcomeUnknown Overloaded
        ProtocolViolation RateLimited RecursiveLoad Redirected RefreshTokenInvalid RefreshTokenReused Refused ServerError
        ServerStartFailed SessionConflict SessionGone SessionNotFound SettingsError SourceChanged TooManySessions Unavailable
        UsageError
    """,
    "commands": "AsyncSubscription BoundAsyncScript BoundScript Subscription",
    "events": """
        CallbackFailed ConnectionDropped Event InvalidationLost InvalidationQueued LimitEvent LimitShadowed LimitUndecided
        LimitUnreadable NameRefused NearTierOff ReadFailed RefreshFailed RefreshTokenCopied RefundFailed SessionItemLost
        SessionUnreadable SessionsMayBeEvicted SlotLost StaleServed SubscriptionInterrupted TrackingRefused Undecodable
        WriteFailed
    """,
    "keys": "Key",
    "operations": "FillRefused Hit Invalidated LoadFailed Loaded Miss Operation Refreshed",
    "ratelimit.limiter": "AsyncLimiter Limiter",
    "ratelimit.options": "LimitOptions",
    "ratelimit.rate": "Rate",
    "ratelimit.tally": "LimitStats",
    "ratelimit.verdict": "Decision Standing Verdict",
    "ratelimit.slots": "Slot",
    "sessions.core": "SessionInfo",
    "sessions.options": "SessionOptions",
    "sessions.record": "Device",
    "sessions.session": "Session",
    "sessions.sessions": "AsyncSessions Sessions",
    "settings": "Settings",
    "stats": "Stats",
    "tokens.core": "AccessToken TokenPair",
    "tokens.options": "TokenOptions",
    "tokens.tokens": "AsyncTokens Tokens",
    "wire.embedded": "EmbeddedServer",
    "wire.latency": "LatencyStats",
    "wire.stats": "NodeStats WireStats",
    "wire.subscription": "Message",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AccessToken",
    "AccessTokenInvalid",
    "AccessTokenRevoked",
    "AsyncCache",
    "AsyncForebay",
    "AsyncLimiter",
    "AsyncSessions",
    "AsyncSubscription",
    "AsyncTokens",
    "AuthenticationRequired",
    "BoundAsyncScript",
    "BoundScript",
    "Cache",
    "CacheMiss",
    "CacheOptions",
    "CacheStats",
    "CallbackFailed",
    "CircuitOpen",
    "Closed",
    "ConnectFailed",
    "ConnectionDropped",
    "ConnectionLost",
    "CrossSlot",
    "DeadlineExceeded",
    "Decision",
    "DecodeError",
    "Device",
    "Duration",
    "EmbeddedServer",
    "EncodeError",
    "Event",
    "FillRefused",
    "Forebay",
    "ForebayError",
    "FreshnessOptions",
    "Hit",
    "InvalidCommand",
    "InvalidCost",
    "InvalidDuration",
    "InvalidKey",
    "InvalidNamespace",
    "InvalidRate",
    "Invalidated",
    "InvalidationLost",
    "InvalidationQueued",
    "Key",
    "LatencyStats",
    "LimitEvent",
    "LimitOptions",
    "LimitShadowed",
    "LimitStats",
    "LimitUndecided",
    "LimitUnreadable",
    "Limiter",
    "LoadFailed",
    "Loaded",
    "LoaderCancelled",
    "LoaderTimeout",
    "Message",
    "Miss",
    "MissingTTL",
    "NameRefused",
    "NearTierOff",
    "NoScript",
    "NodeStats",
    "Operation",
    "OutcomeUnknown",
    "Overloaded",
    "ProtocolViolation",
    "Rate",
    "RateLimited",
    "ReadFailed",
    "RecursiveLoad",
    "Redirected",
    "RefreshFailed",
    "RefreshTokenCopied",
    "RefreshTokenInvalid",
    "RefreshTokenReused",
    "Refreshed",
    "RefundFailed",
    "Refused",
    "ServerError",
    "ServerStartFailed",
    "Session",
    "SessionConflict",
    "SessionGone",
    "SessionInfo",
    "SessionItemLost",
    "SessionNotFound",
    "SessionOptions",
    "SessionUnreadable",
    "Sessions",
    "SessionsMayBeEvicted",
    "Settings",
    "SettingsError",
    "Slot",
    "SlotLost",
    "SourceChanged",
    "StaleServed",
    "Standing",
    "Stats",
    "Subscription",
    "SubscriptionInterrupted",
    "TokenOptions",
    "TokenPair",
    "Tokens",
    "TooManySessions",
    "TrackingRefused",
    "Unavailable",
    "Undecodable",
    "UsageError",
    "Verdict",
    "WarmFailure",
    "WarmReport",
    "WireStats",
    "WriteFailed",
    "new_sealing_key",
    "train_dictionary",
]


if not TYPE_CHECKING:  # a type checker shall miss a name that is not there

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("forebay")
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module 'forebay' has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"forebay.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
