"""How long tokens live, how they are signed, and what becomes of a token that comes twice. What cannot be used is refused at once."""

from __future__ import annotations

from typing import Any, Final, Literal, TypedDict

from ..durations import Duration, to_ms
from ..errors import SettingsError
from ..sessions.options import Lifetimes

__all__ = ["Times", "TokenOptions", "read_options"]

_SIGNING: Final = ("algorithm", "issuer", "audience", "leeway")


class TokenOptions(TypedDict, total=False):
    """What `bay.tokens` can be told beside its keys.

    Attributes:
        access_ttl: how long an access token is good. Default 15 minutes.
        idle_timeout: a login ends when none of its refresh tokens was used for so long. Default 14 days.
        absolute_timeout: it ends so long after it was begun, however much it is used. Default 90 days.
        grace: so long after its first use a refresh token may be presented again, and brings the same next token: for replies
            that were lost, and for requests of the same moment. None: never. Default 10 seconds.
        max_per_user: how many logins a user may have at once; None: any number.
        when_full: "evict" the one that would end first, or "refuse" with `TooManySessions`.
        secret: keys the digests of user ids, and what follows a refresh token; 16 characters or more, the same in all processes.
        algorithm: of the signature: "HS256" and its sisters (keys are secrets), or "EdDSA", "ES256", "RS256" ... (keys are PEM, and
            a service that has the public one alone can read). Default "HS256".
        issuer, audience: who signs, and for whom; a token that says another is refused. Default: nobody.
        leeway: how far the clocks of services may be apart. Default: not at all.
        near_strict: `revoke` returns once no process accepts what it revoked, as for caches. Default False.
    """

    access_ttl: Duration
    idle_timeout: Duration
    absolute_timeout: Duration
    grace: Duration | None
    max_per_user: int | None
    when_full: Literal["evict", "refuse"]
    secret: str | bytes | None
    algorithm: str
    issuer: str | None
    audience: str | None
    leeway: Duration
    near_strict: bool


class Times:
    """What is left of the options once the signer has its own. ``access`` is in seconds, ``grace`` in milliseconds."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.access = to_ms(options.pop("access_ttl", "15m")) / 1000
        grace = options.pop("grace", "10s")
        self.grace = 0 if grace is None else to_ms(grace)
        self.strict = bool(options.pop("near_strict", False))
        self.secret = options.pop("secret", None)
        absolute = options.pop("absolute_timeout", "90d")
        times = {"idle_timeout": "14d", "absolute_timeout": absolute, "remember_for": absolute}
        times |= {name: options.pop(name) for name in ("idle_timeout", "max_per_user", "when_full") if name in options}
        self.lifetimes = Lifetimes(times)
        if self.access * 1000 > self.lifetimes.idle:
            raise SettingsError("access_ttl is longer than idle_timeout: an access token would outlive its login; shorten it")
        if self.grace >= self.lifetimes.idle:
            raise SettingsError("grace is not shorter than idle_timeout: reuse would never be found; shorten it")


def read_options(options: TokenOptions) -> tuple[Times, dict[str, Any]]:
    """Return times, and what the signer is to know.

    Raises:
        InvalidDuration, SettingsError: an option cannot be used.
        TypeError: there is no such option.
    """
    rest: dict[str, Any] = dict(options)
    signing: dict[str, Any] = {"algorithm": "HS256", "issuer": None, "audience": None, "leeway": 0.0}
    signing |= {name: rest.pop(name) for name in _SIGNING if name in rest}
    if signing["leeway"]:
        signing["leeway"] = to_ms(signing["leeway"]) / 1000
    times = Times(rest)
    if rest:
        raise TypeError(f"tokens() has no option {next(iter(rest))!r}; there are: {', '.join(TokenOptions.__annotations__)}")
    return times, signing
