"""From what a script says to a verdict, and what follows from it; and what stands in for it without a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from ..errors import ForebayError, InvalidCost, RateLimited, ServerError
from ..events import LimitShadowed, LimitUndecided, LimitUnreadable
from ..port.port import Reply
from .algorithms import Judged
from .policy import Policy, Question
from .rate import Rate, stored_rates
from .verdict import DecidedBy, Standing, Verdict

__all__ = ["ERROR", "by_two", "decided", "in_shadow", "let_through", "limited", "recalled", "stand_in", "verdict_of"]

ERROR: Final = -2
_SECOND: Final = 1_000_000
_WORTH_REMEMBERING: Final = 0.005  # seconds: a refusal that ends sooner is asked for again
_CLOSED_FOR: Final = 1.0  # seconds, in the verdict of a limiter that is closed while the server is away


def recalled(policy: Policy, found: list[tuple[Rate, Judged]], text: str) -> Verdict:
    """Return the refusal that follows from what this process remembers."""
    if len(found) == 1:
        ((rate, (_, left, retry, reset)),) = found
        verdict = Verdict(False, rate.limit, left, retry / _SECOND, reset / _SECOND, policy.name, rate, "memory")  # noqa: FBT003
    else:
        verdict = verdict_of(policy.name, found, "memory")
    policy.tally.remembered += 1
    if policy.options.shadow:
        verdict = in_shadow(policy, verdict, text)
    policy.count(verdict)
    return verdict


def too_costly(question: Question, rates: Sequence[Rate]) -> InvalidCost:
    """Return the error for a cost that no burst of *rates* holds."""
    least = min(rate.burst for rate in rates)
    return InvalidCost(f"a cost of {question.cost} is more than limit {question.policy.name!r} lets through at once, which is {least}")


def decided(question: Question, reply: Reply, *, counts: bool = True) -> Verdict:
    """Return the verdict of a script's *reply*; see to what follows from a refusal, if it *counts*.

    Raises:
        InvalidCost: it could never pass; nothing was charged.
        ServerError: this key could not be decided.
    """
    policy = question.policy
    rates = question.rates
    if len(reply) == 2:
        return Verdict(True, rates[0].limit, reply[0], 0.0, reply[1] / _SECOND, policy.name, rates[0])  # noqa: FBT003
    if len(reply) == 4:
        return by_two(policy.name, rates, reply)
    if reply[0] == ERROR:
        raise ServerError(reply[1].decode("utf-8", "replace"))
    passes, own, _, *numbers = reply
    if passes < 0:
        raise too_costly(question, stored_rates(own, checked=True) or rates)
    if own == b"!":
        policy.reporter.report(LimitUnreadable(ValueError("the stored rates are damaged"), policy.name, question.text))
    elif own is not None:
        rates = stored_rates(own, checked=True) or rates
    if len(rates) == 1:
        (rate,) = rates
        remaining, retry, reset = numbers
        verdict = Verdict(passes == 1, rate.limit, remaining, retry / _SECOND, reset / _SECOND, policy.name, rate)
    else:
        triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        verdict = verdict_of(policy.name, zip(rates, ((retry == 0, left, retry, reset) for left, retry, reset in triples), strict=True))
    if counts and not passes:
        if verdict.retry_after >= _WORTH_REMEMBERING:
            policy.remember(question)
        if policy.options.shadow:
            verdict = in_shadow(policy, verdict, question.text)
    return verdict


def by_two(name: str, rates: Sequence[Rate], reply: Sequence[int]) -> Verdict:
    """Return the verdict of two rates that let it through: units left, and microseconds until all is free, of each."""
    one, two = rates
    left, free, other_left, other_free = reply
    standings = Standing(one, left, 0.0, free / _SECOND), Standing(two, other_left, 0.0, other_free / _SECOND)
    worst = standings[0] if left <= other_left else standings[1]
    numbers = worst.remaining, 0.0, worst.reset_after
    return Verdict(True, worst.rate.limit, *numbers, name, worst.rate, standings=standings)  # noqa: FBT003


def verdict_of(name: str, found: Iterable[tuple[Rate, Judged]], decided_by: DecidedBy = "server") -> Verdict:
    """Return the verdict of one or several rates: that of the one that refuses for longest, or else has the least left."""
    standings = [Standing(rate, left, retry / _SECOND, reset / _SECOND) for rate, (_, left, retry, reset) in found]
    allowed = not any(standing.retry_after for standing in standings)
    worst = min(standings, key=lambda each: each.remaining) if allowed else max(standings, key=lambda each: each.retry_after)
    numbers = worst.remaining, worst.retry_after, worst.reset_after
    return Verdict(
        allowed, worst.rate.limit, *numbers, name, worst.rate, decided_by, standings=tuple(standings) if len(standings) > 1 else ()
    )


def stand_in(question: Question, error: ForebayError, *, charging: bool) -> Verdict:
    """Return what ``on_outage`` says, and report that it had to."""
    policy = question.policy
    options = policy.options
    outcome = options.on_outage
    policy.reporter.report(LimitUndecided(error, policy.name, question.text, outcome))
    if outcome == "local":
        verdict = verdict_of(policy.name, policy.local(question, charge=charging), "local")
    else:
        rate = question.rates[0]
        is_open = outcome == "open"
        retry = 0.0 if is_open else _CLOSED_FOR
        verdict = Verdict(is_open, rate.limit, rate.limit if is_open else 0, retry, retry, policy.name, rate, outcome)
    if not charging:
        return verdict
    if not verdict.allowed and policy.options.shadow:
        verdict = in_shadow(policy, verdict, question.text)
    policy.tally.undecided += 1
    policy.count(verdict)
    return verdict


def limited(verdict: Verdict) -> RateLimited:
    """Return the error that says what *verdict* does."""
    if verdict.undecided:
        return RateLimited(f"limit {verdict.policy!r} cannot be checked, and is closed until it can be", verdict)
    return RateLimited(f"limit {verdict.policy!r} of {verdict.rate} is reached: there is room in {verdict.retry_after:.3g} s", verdict)


def in_shadow(policy: Policy, verdict: Verdict, text: str) -> Verdict:
    """Return *verdict*, a refusal, as a limiter in shadow mode gives it, and report it."""
    policy.reporter.report(LimitShadowed(limited(verdict), policy.name, text))
    policy.tally.shadowed += 1
    return let_through(verdict)


def let_through(verdict: Verdict) -> Verdict:
    """Return *verdict*, a refusal, as one that refuses nobody."""
    return replace(verdict, allowed=True, retry_after=0.0, shadowed=True)
