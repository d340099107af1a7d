"""When a value is fresh, when it is refreshed, and for how long a stale copy is kept. Plain functions that take ``now``.

``stale_while_revalidate`` and ``stale_if_error`` are those of RFC 5861. ``early_refresh`` is XFetch: A. Vattani, F. Chierichetti,
K. Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Final, TypedDict

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from ..durations import Duration, to_ms, to_seconds
from ..errors import MissingTTL, SettingsError
from .entry import Entry

__all__ = ["Freshness", "FreshnessOptions", "Verdict", "judge", "lifetime", "paused"]


class FreshnessOptions(TypedDict, total=False):
    """What may be given to `bay.cache` for all entries, and to a call for one.

    Attributes:
        ttl: how long a value is fresh; None: for ever.
        jitter: a share of the ttl, from 0.0 to 1.0, of which a random part is taken off, so that entries do not end together.
        stale_while_revalidate: how long after its ttl a value is still returned while it is refreshed in the background.
        stale_if_error: how long after its ttl a value is still returned when the loader fails.
        early_refresh: refreshes in the background before the ttl ends, the likelier the nearer; 1.0 is the theory's best, more is earlier.
        none_ttl: the ttl of a stored None, instead of ``ttl``.
        sliding: each read that finds less than half of the ttl left begins it anew.
        soft_timeout: how long a caller waits for the loader when there is a stale value to be had instead.
        hard_timeout: how long a loader may take at all.
    """

    ttl: Duration | None
    jitter: float
    stale_while_revalidate: Duration
    stale_if_error: Duration
    early_refresh: float
    none_ttl: Duration | None
    sliding: bool
    soft_timeout: Duration | None
    hard_timeout: Duration | None


_DURATIONS: Final = ("ttl", "none_ttl", "stale_while_revalidate", "stale_if_error")
_TIMEOUTS: Final = ("soft_timeout", "hard_timeout")


class Freshness(Struct, frozen=True, kw_only=True):
    """The options, checked: times in milliseconds (``inf``: for ever), timeouts in seconds."""

    ttl: float | UnsetType = UNSET
    jitter: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    early_refresh: float = 0.0
    none_ttl: float | UnsetType = UNSET
    sliding: bool = False
    soft_timeout: float | None = None
    hard_timeout: float | None = None

    def having(self, options: FreshnessOptions) -> Freshness:
        """Return these with some options changed.

        Raises:
            InvalidDuration, SettingsError: an option cannot be used; the message names it.
            TypeError: there is no such option.
        """
        changes: dict[str, Any] = dict(options)
        for name in _DURATIONS:
            if name in changes and changes[name] is not UNSET:
                changes[name] = _milliseconds(name, changes[name])
        for name in _TIMEOUTS:
            if changes.get(name) is not None:
                changes[name] = to_seconds(changes[name])
        unknown = sorted(set(changes) - set(self.__struct_fields__))
        if unknown:
            raise TypeError(f"there is no option {unknown[0]!r}; known are {', '.join(self.__struct_fields__)}")
        new = replace(self, **changes)
        _check(new)
        return new

    def ttl_for(self, value: object, namespace: str) -> float:
        """Return the ttl of *value* in milliseconds, before jitter.

        Raises:
            MissingTTL: neither the cache nor the call names one.
        """
        ttl = self.ttl if value is not None or self.none_ttl is UNSET else self.none_ttl
        if isinstance(ttl, UnsetType):
            raise MissingTTL(
                f"cache {namespace!r} has no ttl of its own: give one here or to bay.cache(), as in ttl='15m'; ttl=None means for ever"
            )
        return ttl

    @property
    def grace(self) -> float:
        """For how many milliseconds past its ttl a value is kept."""
        return max(self.stale_while_revalidate, self.stale_if_error)

    @property
    def needs_metadata(self) -> bool:
        """Whether an entry must tell when it was fresh: then it cannot be bare."""
        return bool(self.grace or self.early_refresh or self.sliding)


class Verdict(Enum):
    """What a value is good for."""

    FRESH = "fresh"
    REFRESH = "refresh"
    """Fresh or stale, it is returned, and refreshed in the background."""
    STALE = "stale"
    """Returned only if the loader fails or is slow."""
    SPENT = "spent"


def lifetime(ttl: float, freshness: Freshness, draw: float) -> tuple[float, int | None]:
    """Return for how many milliseconds a value is fresh, and how long it is kept (None: for ever). *draw* is from 0.0 to 1.0."""
    fresh = max(1.0, ttl * (1 - freshness.jitter * draw)) if freshness.jitter else ttl
    return fresh, None if fresh == math.inf else max(1, int(fresh + freshness.grace))


def judge(entry: Entry, freshness: Freshness, now: float, draw: float) -> Verdict:
    """Say what *entry* is good for at *now*, in the server's milliseconds. *draw* is from 0.0 (excluded) to 1.0."""
    left = entry.fresh_until - now
    if left > 0:
        early = freshness.early_refresh
        if early and left < math.inf and -entry.load_ms * early * math.log(draw) >= left:
            return Verdict.REFRESH
        return Verdict.FRESH
    if -left < freshness.stale_while_revalidate:
        return Verdict.REFRESH
    return Verdict.STALE if -left < freshness.grace else Verdict.SPENT


def paused(entry: Entry, freshness: Freshness, now: float) -> bool:
    """Whether somebody's loader failed a moment ago, and *entry* stands in for it without another try."""
    return not any(entry.token) and entry.lease_until > now and now - entry.fresh_until < freshness.stale_if_error


def _milliseconds(name: str, value: Duration | None) -> float:
    if value is None:
        if name in ("ttl", "none_ttl"):
            return math.inf
        raise SettingsError(f"{name}=None is no duration: leave it out, or give one such as '10m'")
    if name.startswith("stale") and value in (0, 0.0):
        return 0.0
    return float(to_ms(value))


def _check(freshness: Freshness) -> None:
    if not (isinstance(freshness.jitter, int | float) and 0 <= freshness.jitter <= 1):
        raise SettingsError(f"jitter={freshness.jitter!r} is no share of the ttl: give a number from 0.0 to 1.0")
    if not (isinstance(freshness.early_refresh, int | float) and 0 <= freshness.early_refresh < math.inf):
        raise SettingsError(f"early_refresh={freshness.early_refresh!r} is not a number from 0.0 (off) upwards; 1.0 is usual")
    if freshness.sliding and (freshness.jitter or freshness.grace or freshness.early_refresh):
        raise SettingsError("sliding=True begins the ttl anew: jitter, early_refresh and stale copies have no meaning beside it")
    soft, hard = freshness.soft_timeout, freshness.hard_timeout
    if soft is not None and hard is not None and soft >= hard:
        raise SettingsError(f"soft_timeout={soft:g} s is not below hard_timeout={hard:g} s")
    if soft is not None and not freshness.grace:
        raise SettingsError("soft_timeout returns the stale value in time, and none is kept: give stale_while_revalidate or stale_if_error")
