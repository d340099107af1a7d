"""What was decided. A verdict is a value: nothing more is asked when it is looked at, and all times in it are seconds."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .rate import Rate

__all__ = ["DecidedBy", "Decision", "Standing", "Verdict"]

DecidedBy = Literal["server", "memory", "lease", "exempt", "local", "open", "closed"]
"""Who decided: the server; this process, which remembers a refusal; tokens that it took before; nobody, for the key is exempt;
or, with the server away, what ``on_outage`` says."""


class Standing(Struct, frozen=True, gc=False):
    """How a key stands with one rate."""

    rate: Rate
    remaining: int
    retry_after: float
    reset_after: float


class Verdict(Struct, frozen=True, gc=False):
    """The decision of one limiter about one key.

    Attributes:
        allowed: whether it may happen.
        limit: how many in the period of ``rate``.
        remaining: how many more would be let through at once.
        retry_after: seconds after which the same hit would be let through, if nobody else comes; 0.0 if it was allowed.
        reset_after: seconds after which everything is as if nothing had happened.
        policy: the name of the limiter.
        rate: the rate that decided: of several, the one that refuses for longest, or else has the least left.
        decided_by: who decided, see `DecidedBy`.
        shadowed: it would have been refused, but the limiter is in shadow mode.
        standings: where the key stands with each rate, if the limiter has several.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float
    reset_after: float
    policy: str
    rate: Rate
    decided_by: DecidedBy = "server"
    shadowed: bool = False
    standings: tuple[Standing, ...] = ()

    @property
    def each(self) -> tuple[Standing, ...]:
        """Where the key stands with each rate, also if there is but one."""
        return self.standings or (Standing(self.rate, self.remaining, self.retry_after, self.reset_after),)

    @property
    def undecided(self) -> bool:
        """Whether the server could not be asked, and nothing was counted there."""
        return self.decided_by in ("local", "open", "closed")


class Decision(Struct, frozen=True):
    """Several limiters and keys decided at once: all are charged, or none is.

    ``verdicts`` are in the order in which they were asked; where this process knows of a refusal, nobody else is asked, and only the
    refusals are there.
    """

    verdicts: tuple[Verdict, ...]

    @property
    def allowed(self) -> bool:
        """Whether all allow it."""
        return all(verdict.allowed for verdict in self.verdicts)

    @property
    def strictest(self) -> Verdict:
        """The one that refuses for longest, or else has the least left."""
        refusals = [verdict for verdict in self.verdicts if not verdict.allowed]
        if refusals:
            return max(refusals, key=lambda verdict: verdict.retry_after)
        return min(self.verdicts, key=lambda verdict: verdict.remaining)

    @property
    def limit(self) -> int:
        """That of the strictest."""
        return self.strictest.limit

    @property
    def remaining(self) -> int:
        """That of the strictest."""
        return self.strictest.remaining

    @property
    def retry_after(self) -> float:
        """Seconds after which all would allow it, if nobody else comes."""
        return max(verdict.retry_after for verdict in self.verdicts)

    @property
    def reset_after(self) -> float:
        """Seconds after which everything is as if nothing had happened."""
        return max(verdict.reset_after for verdict in self.verdicts)

    @property
    def policy(self) -> str:
        """The name of the strictest."""
        return self.strictest.policy
