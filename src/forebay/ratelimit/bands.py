"""Limiters that are asked together again and again, each about one unit of one rate: what is the same each time is worked out once."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final

from ..port.port import Port, Reply
from .asking import SCRIPT, words_of
from .core import LimiterCore
from .names import LONGEST
from .policy import Policy, Question
from .verdict import Decision, Verdict

__all__ = ["Band", "band_of"]

_MOST: Final = 100  # bands that one limiter remembers to lead


class Band:
    """Policies of one bay, with names of their own, of which a hit needs nothing but the server's answer."""

    __slots__ = ("_key_count", "_rates", "_word_count", "_words", "policies")

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = policies
        self._rates = [policy.options.rates[0] for policy in policies]
        self._words = words_of([Question(policy, "", policy.options.rates, 1) for policy in policies])
        self._key_count, self._word_count = 2 * len(policies), 2 + 2 * len(policies)

    def ask(self, port: Port, keys: Sequence[Any]) -> Awaitable[Reply] | None:
        """Return what brings the replies; None where these keys, or this moment, need a closer look."""
        names = []
        for policy, key in zip(self.policies, keys, strict=True):
            if policy.held or type(key) is not str or not 0 < len(key) <= LONGEST:
                return None
            names.append(policy.names.packed(key))
        return port.gather(SCRIPT, b"".join(names), self._key_count, self._words, self._word_count)

    def decision(self, replies: Sequence[Reply]) -> Decision | None:
        """Return the decision if all were charged, or else None."""
        verdicts = []
        for policy, rate, reply in zip(self.policies, self._rates, replies, strict=True):
            if len(reply) != 2:
                return None
            verdicts.append(Verdict(True, rate.limit, reply[0], 0.0, reply[1] / 1_000_000, policy.name, rate))  # noqa: FBT003
        for policy in self.policies:
            policy.tally.allowed += 1
        return Decision(tuple(verdicts))

    def questions(self, keys: Sequence[str]) -> list[Question]:
        """Return what was asked, one by one."""
        return [Question(policy, key, policy.options.rates, 1) for policy, key in zip(self.policies, keys, strict=True)]


def band_of(port: Port, limiters: tuple[Any, ...]) -> Band | None:
    """Return the band of *limiters*, for asyncio; None if they are none."""
    leader = limiters[0] if 1 < len(limiters) <= _MOST else None
    if not isinstance(leader, LimiterCore):
        return None
    known = leader.policy.bands
    if not all(isinstance(limiter, LimiterCore) for limiter in limiters):
        return None
    if limiters not in known:
        if len(known) >= _MOST:
            known.clear()
        known[limiters] = _made(port, limiters)
    band: Band | None = known[limiters]
    return band


def _made(port: Port, limiters: tuple[Any, ...]) -> Band | None:
    policies = [limiter.policy for limiter in limiters if isinstance(limiter, LimiterCore)]
    if len(policies) < len(limiters) or len({policy.name for policy in policies}) < len(policies):
        return None
    simple = all(policy.port is port and policy.simple for policy in policies)
    return Band(policies) if simple else None
