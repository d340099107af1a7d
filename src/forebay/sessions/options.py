"""How long sessions live, how many a user has, and how their items are stored. What cannot be used is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypedDict

from ..codecs.coding import Coding, coding_for
from ..durations import Duration, to_ms
from ..errors import SettingsError

__all__ = ["Lifetimes", "SessionOptions", "read_options"]

_CODING: Final = ("codec", "compress_above", "dictionary", "seal_keys", "max_bytes")
_MOST_BYTES: Final = 1024 * 1024


class SessionOptions(TypedDict, total=False):
    """What `bay.sessions` can be told.

    Attributes:
        idle_timeout: a session ends when it was not used for so long. Default 30 minutes.
        absolute_timeout: it ends so long after it was begun, however much it is used. Default 12 hours.
        remember_for: both, for sessions made with ``remember_me=True``. Default 30 days.
        touch_every: using a session prolongs it at most once in so long. Default a minute.
        max_per_user: how many sessions a user may have at once; None: any number.
        when_full: "evict" the one that would end first, or "refuse" with `TooManySessions`.
        secret: keys the digests of user ids in names of keys; 16 characters or more, the same in all processes.
        codec, compress_above, dictionary, seal_keys, max_bytes: as for caches, for each item. ``max_bytes`` is 1 MiB by default.
    """

    idle_timeout: Duration
    absolute_timeout: Duration
    remember_for: Duration
    touch_every: Duration
    max_per_user: int | None
    when_full: Literal["evict", "refuse"]
    secret: str | bytes | None
    codec: Literal["json", "msgpack"]
    compress_above: int | None
    dictionary: bytes | None
    seal_keys: Sequence[bytes | str]
    max_bytes: int


class Lifetimes:
    """The times of sessions, in milliseconds, and how many a user may have (0: any number)."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.idle = to_ms(options.pop("idle_timeout", "30m"))
        self.absolute = to_ms(options.pop("absolute_timeout", "12h"))
        self.remembered = to_ms(options.pop("remember_for", "30d"))
        self.touch_every = to_ms(options.pop("touch_every", min(60.0, self.idle / 2000)))
        if self.idle > self.absolute:
            raise SettingsError("idle_timeout is longer than absolute_timeout: shorten it, or lengthen the other")
        if self.touch_every >= self.idle:
            raise SettingsError("touch_every is not shorter than idle_timeout: a session in use would end; shorten it")
        most = options.pop("max_per_user", None)
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise SettingsError(f"max_per_user={most!r} is no number of sessions: give 1 or more, or None for any number")
        self.most = most or 0
        self.when_full = options.pop("when_full", "evict")
        if self.when_full not in ("evict", "refuse"):
            raise SettingsError(f"when_full={self.when_full!r} is unknown: use 'evict' or 'refuse'")

    @property
    def longest(self) -> int:
        """The longest that any session lives."""
        return max(self.absolute, self.remembered)


def read_options(options: SessionOptions) -> tuple[Lifetimes, str | bytes | None, Coding[Any]]:
    """Return lifetimes, secret and coding.

    Raises:
        InvalidDuration, SettingsError: an option cannot be used.
        TypeError: there is no such option.
    """
    rest: dict[str, Any] = dict(options)
    coding = {"max_bytes": _MOST_BYTES, **{name: rest.pop(name) for name in _CODING if name in rest}}
    secret = rest.pop("secret", None)
    lifetimes = Lifetimes(rest)
    if rest:
        raise TypeError(f"sessions() has no option {next(iter(rest))!r}; there are: {', '.join(SessionOptions.__annotations__)}")
    return lifetimes, secret, coding_for(None, **coding)
