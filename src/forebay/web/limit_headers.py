"""What a verdict says in HTTP: ``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-10, in the syntax of RFC 9651),
the older ``X-RateLimit-*``, ``Retry-After`` (RFC 9110), and the body of a 429.

All times are seconds from now and never a clock's, so that no client's clock matters. They are rounded up: who waits so long has room.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from ..ratelimit.rate import Rate
from ..ratelimit.verdict import Standing, Verdict

__all__ = ["AWAY", "EXCEEDED", "Headers", "answer_to", "body_of", "limit_headers", "retry_after"]

Headers = list[tuple[bytes, bytes]]

EXCEEDED: Final = "rate limit exceeded"
AWAY: Final = "the rate limit cannot be checked"
_PROBLEM: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"


def limit_headers(verdicts: Iterable[Verdict]) -> Headers:
    """Return the headers for what was decided on the server or is known here; of what could not be decided, nothing is said."""
    policies: dict[str, str] = {}  # of one that was asked twice, the last counts
    limits: dict[str, str] = {}
    strictest: Standing | None = None
    for verdict in verdicts:
        if verdict.undecided or verdict.decided_by == "exempt":
            continue
        standings = verdict.each
        for standing in standings:
            name = _name(verdict, standing)
            quota, window = _quota(standing.rate)
            policies[name] = f'"{name}";q={quota}{window}'
            limits[name] = f'"{name}";r={standing.remaining};t={math.ceil(standing.retry_after or standing.reset_after)}'
            if strictest is None or _rank(standing) < _rank(strictest):
                strictest = standing
    if strictest is None:
        return []
    reset = math.ceil(strictest.retry_after or strictest.reset_after)
    return [
        (b"ratelimit-policy", ", ".join(policies.values()).encode()),
        (b"ratelimit", ", ".join(limits.values()).encode()),
        (b"x-ratelimit-limit", b"%d" % _quota(strictest.rate)[0]),
        (b"x-ratelimit-remaining", b"%d" % strictest.remaining),
        (b"x-ratelimit-reset", b"%d" % reset),
    ]


def retry_after(seconds: float, jitter: float = 0.0) -> tuple[bytes, bytes]:
    """Return ``Retry-After``: in so many *seconds*, and up to *jitter* later, so that not all come back at once."""
    return b"retry-after", b"%d" % max(1, math.ceil(seconds + jitter * random.random()))  # noqa: S311 - it guards nothing


def answer_to(refusals: Sequence[Verdict]) -> tuple[int, str]:
    """Return the status for who is refused, and a word: 429; 503 if the limits are closed because they cannot be checked."""
    return (503, AWAY) if refusals and all(verdict.decided_by == "closed" for verdict in refusals) else (429, EXCEEDED)


def body_of(refusals: Sequence[Verdict], form: Literal["json", "problem"]) -> tuple[int, bytes, bytes]:
    """Return status, type and body of the answer to who is refused; as *form* ``problem`` it is that of RFC 9457."""
    status, text = answer_to(refusals)
    if form == "json":
        return status, b"application/json", json.dumps({"error": text}).encode()
    problem: dict[str, object] = {"title": text, "status": status}
    if status == 429 and refusals:
        problem = {"type": _PROBLEM, **problem, "violated-policies": list(dict.fromkeys(_violated(refusals)))}
    return status, b"application/problem+json", json.dumps(problem).encode()


def _violated(refusals: Iterable[Verdict]) -> Iterator[str]:
    for verdict in refusals:
        standings = verdict.each
        for standing in standings:
            if standing.retry_after:
                yield _name(verdict, standing)


def _rank(standing: Standing) -> tuple[float, int]:
    return -standing.retry_after, standing.remaining


def _name(verdict: Verdict, standing: Standing) -> str:
    """Return what a rate is called: by its period, if there are several."""
    if not verdict.standings:
        return verdict.policy
    whole, rest = divmod(standing.rate.period_us, 1_000_000)
    return f"{verdict.policy}-{whole}s" if not rest else f"{verdict.policy}-{standing.rate.period_us // 1000}ms"


def _quota(rate: Rate) -> tuple[int, str]:
    """Return how many in how long; of a burst above the limit, in how long that comes back."""
    quota = max(rate.limit, rate.burst)
    window, rest = divmod(quota * rate.period_us, rate.limit * 1_000_000)
    return quota, "" if rest else f";w={window}"
