"""From a question to a verdict: one script for any number of limiters and keys of one slot, and what stands in for it without a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from ..errors import ForebayError, InvalidCost, RateLimited, UsageError
from ..events import LimitShadowed, LimitUndecided, LimitUnreadable, RefundFailed
from ..port.port import Port, Reply
from ..wire.hurry import DECISION
from ..wire.resp import Arg
from .algorithms import Judged
from .policy import Policy, Question
from .rate import Rate
from .refusals import own_rates_of
from .scripts import decides
from .verdict import DecidedBy, Standing, Verdict

__all__ = ["Answer", "ask", "in_shadow", "limited", "recalled", "refund", "stand_in", "verdict_of"]

_SECOND: Final = 1_000_000
_WORTH_REMEMBERING: Final = 0.005  # seconds: a refusal that ends sooner is asked for again
_CLOSED_FOR: Final = 1.0  # seconds, in the verdict of a limiter that is closed while the server is away


class Answer(Struct, frozen=True):
    """What the server said: the verdict, and by what a charge can be given back."""

    verdict: Verdict
    mark: int


async def ask(port: Port, mode: Literal["hit", "peek"], asks: Sequence[Question], *, counts: bool = True) -> list[Answer]:
    """Decide about *asks*, whose keys share a slot, in one script; and see to what follows from each answer, if it *counts*.

    Raises:
        InvalidCost: one could never pass; nothing was charged.
        ForebayError: there is no decision.
    """
    laws = sorted({each.policy.options.law for each in asks})
    keys = [name for each in asks for name in each.names]
    words: list[Arg] = [mode, *(word for each in asks for word in _words(each))]
    replies = await decides(*laws).run(port, keys, words, idempotent=mode == "peek", hurry=DECISION)
    for each, reply in zip(asks, replies, strict=True):
        if reply[0] < 0:
            raise too_costly(each, own_rates_of(reply[2]) or each.rates)
    counts = counts and mode == "hit"
    answers = [answer_of(each, reply, counts=counts) for each, reply in zip(asks, replies, strict=True)]
    if counts:
        charged = all(each.verdict.allowed for each in answers)
        for question, answer in zip(asks, answers, strict=True):
            question.policy.count(answer.verdict, charged=charged)
    return answers


def _words(question: Question, mark: int = 0) -> tuple[Arg, ...]:
    options = question.policy.options
    return options.law, int(options.shadow), question.cost, mark, question.packed_rates


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


def answer_of(question: Question, reply: Reply, *, counts: bool) -> Answer:
    """Return what a *reply* of the script means, and see to what follows from it."""
    policy = question.policy
    passes, mark, own, *numbers = reply
    rates = question.rates
    if own is not None:
        rates = own_rates_of(own) or rates
        if own == b"!" or len(numbers) != 3 * len(rates):
            policy.reporter.report(LimitUnreadable(ValueError("the stored rates are damaged"), policy.name, question.text))
            rates = question.rates
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
    return Answer(verdict, mark)


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


async def refund(port: Port, charged: Iterable[tuple[Question, int]]) -> None:
    """Give back what was charged, by the marks of its answers. What cannot be given back is reported, and is free again with time."""
    for question, mark in charged:
        try:
            await decides(question.policy.options.law).run(port, question.names, ("refund", *_words(question, mark)))
        except UsageError:
            raise
        except ForebayError as error:
            question.policy.reporter.report(RefundFailed(error, question.policy.name, question.text))


def limited(verdict: Verdict) -> RateLimited:
    """Return the error that says what *verdict* does."""
    if verdict.undecided:
        return RateLimited(f"limit {verdict.policy!r} cannot be checked, and is closed until it can be", verdict)
    return RateLimited(f"limit {verdict.policy!r} of {verdict.rate} is reached: there is room in {verdict.retry_after:.3g} s", verdict)


def in_shadow(policy: Policy, verdict: Verdict, text: str) -> Verdict:
    """Return *verdict*, a refusal, as a limiter in shadow mode gives it, and report it."""
    policy.reporter.report(LimitShadowed(limited(verdict), policy.name, text))
    policy.tally.shadowed += 1
    return replace(verdict, allowed=True, retry_after=0.0, shadowed=True)
