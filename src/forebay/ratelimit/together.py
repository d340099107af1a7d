"""Several limits and several keys at once: all are charged, or none is.

Where all keys share a slot, which on a single server they always do, one script decides. On a cluster each slot decides for itself, one
after the other: what was charged is given back when a later one refuses. Who dies in between has charged too much, never too little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final

from ..errors import ForebayError, InvalidCommand, UsageError
from ..keys import Key
from ..port.port import Port, Reply
from ..wire.slots import slot_of
from .asking import again, ask, asked_alone, refund
from .bands import Band, band_of
from .core import LimiterCore, asked
from .deciding import ERROR, decided, let_through, recalled, stand_in
from .policy import Policy, Question
from .verdict import Decision, Verdict

__all__ = ["hit_all"]

_Place = tuple[Policy, str]
_MOST: Final = 500
_FORM: Final = "give (limiter, key) or (limiter, key, cost) for each"


async def hit_all(port: Port, wanted: Iterable[Sequence[Any]]) -> Decision:
    """Charge every cost to its key, if all limiters let theirs through; else charge nothing.

    Raises:
        InvalidKey, InvalidCost, InvalidRate, UsageError: as `LimiterCore.hit`, for the first that cannot be; nothing was charged.
    """
    given = list(wanted)
    try:
        limiters, keys = zip(*given, strict=True)
    except (TypeError, ValueError):  # costs are named, or what is wrong is said below
        band = None
    else:
        band = band_of(port, limiters)
    if band is not None:
        asked_for = band.ask(port, keys)
        if asked_for is not None:
            return await _decided_by(port, band, keys, asked_for)
    listed = [_read(port, each) for each in given]
    if not 0 < len(listed) <= _MOST:
        raise InvalidCommand(f"hit_all was given {len(listed) or 'nothing'}: {_FORM}, at most {_MOST}")
    questions = [asked(limiter, key, cost) for limiter, key, cost in listed]
    if len({question.policy for question in questions}) == len(questions) and all(question.policy.plain for question in questions):
        _check_names(questions)  # as nearly always: nothing to look up, and nothing asked for twice
        return Decision(tuple(await _decided_group(port, questions)))
    asks: dict[_Place, Question] = {}
    exempt: dict[_Place, Verdict] = {}
    for (_, key, cost), question in zip(listed, questions, strict=True):
        policy, place = question.policy, (question.policy, question.text)
        if policy.is_exempt(key):
            exempt[place] = policy.exempted(question.rates, counts=False)
        elif asks.setdefault(place, question) is not question:
            asks[place].cost += cost  # one key, asked for twice
    if len(asks) > 1:
        _check_names(asks.values())
    refusals = []
    for each in asks.values():
        if each.policy.held and not each.policy.options.shadow:
            found = each.policy.known(each.text, each.rates, each.cost)
            if found is not None:
                refusals.append(recalled(each.policy, found, each.text))
    if refusals:
        return Decision(tuple(refusals))
    verdicts = await _decided(port, asks)
    if all(verdict.allowed for verdict in verdicts.values()):
        for policy, _ in exempt:
            policy.tally.exempt += 1
            policy.tally.allowed += 1
    verdicts |= exempt
    return Decision(tuple([verdicts[question.policy, question.text] for question in questions]))


async def _decided_by(port: Port, band: Band, keys: Sequence[str], asked_for: Awaitable[Reply]) -> Decision:
    try:
        replies = await asked_for
    except ForebayError as error:
        return Decision(tuple(await _decided_group(port, band.questions(keys), failed=error)))
    return band.decision(replies) or Decision(tuple(await _settled(port, band.questions(keys), replies)))


def _check_names(questions: Iterable[Question]) -> None:
    policies: dict[tuple[str, str], Policy] = {}
    for question in questions:
        name = question.policy.name
        if policies.setdefault((name, question.text), question.policy) is not question.policy:
            raise UsageError(f"two limiters are called {name!r}, and would decide about one key at once: name them apart")


def _read(port: Port, given: Sequence[Any]) -> tuple[LimiterCore, Key, int]:
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise InvalidCommand(f"hit_all cannot read {given!r}: {_FORM}")
    limiter = given[0]
    if not isinstance(limiter, LimiterCore):  # that of asyncio is one, that of threads has one
        limiter = getattr(limiter, "_core", None)
    if not isinstance(limiter, LimiterCore):
        raise InvalidCommand(f"hit_all cannot ask {given[0]!r}: {_FORM}")
    if limiter.policy.port is not port:
        raise UsageError(f"limiter {limiter.name!r} is of another bay: what one script decides has one server")
    return limiter, given[1], given[2] if len(given) == 3 else 1


async def _decided(port: Port, asks: dict[_Place, Question]) -> dict[_Place, Verdict]:
    verdicts: dict[_Place, Verdict] = {}
    if not any(question.policy.splits for question in asks.values()):
        verdicts |= zip(asks, await _decided_group(port, list(asks.values())), strict=True) if asks else ()
        return verdicts
    charged: list[tuple[Question, int]] = []
    groups: dict[int, list[tuple[_Place, Question]]] = {}
    for place, question in asks.items():
        groups.setdefault(slot_of(question.names[0]), []).append((place, question))
    try:
        for group in groups.values():
            if all(verdict.allowed for verdict in verdicts.values()):
                places, questions = zip(*group, strict=True)
                verdicts |= zip(places, await _decided_group(port, questions, charged), strict=True)
            else:
                verdicts |= await _looked_at(port, group)
    except BaseException:
        if charged:
            _uncount(charged)
            port.background(refund(port, charged))
        raise
    if charged and not all(verdict.allowed for verdict in verdicts.values()):
        _uncount(charged)
        await refund(port, charged)
    return verdicts


def _uncount(charged: Iterable[tuple[Question, int]]) -> None:
    for question, _ in charged:
        question.policy.tally.allowed -= 1


async def _decided_group(
    port: Port, questions: Sequence[Question], marks: list[tuple[Question, int]] | None = None, failed: ForebayError | None = None
) -> list[Verdict]:
    """Return the verdicts of one slot; add to *marks* what was charged, to be given back. *failed* is what came of a first try."""
    try:
        try:
            if failed is not None:
                raise failed
            replies = await (ask(port, questions) if marks is None else asked_alone(port, "charge", questions))
        except ForebayError as error:
            if marks is not None:  # that was repeated as far as may be
                raise
            replies = await again(error, port, questions)
    except UsageError:
        raise
    except ForebayError as error:
        return [stand_in(question, error, charging=True) for question in questions]
    return await _settled(port, questions, [replies] if len(questions) == 1 else replies, marks)


async def _settled(
    port: Port, questions: Sequence[Question], replies: Sequence[Reply], marks: list[tuple[Question, int]] | None = None
) -> list[Verdict]:
    """Return the verdicts of *replies*, and see to what follows from them."""
    found = _found(questions, replies)
    failed_at = {at for at, reply in enumerate(replies) if reply[0] == ERROR}
    if failed_at and len(failed_at) < len(found) and all(verdict.allowed for verdict in found):  # nobody refuses: the others are charged
        rest = [question for at, question in enumerate(questions) if at not in failed_at]
        charged = iter(await _decided_group(port, rest, marks))
        return [verdict if at in failed_at else next(charged) for at, verdict in enumerate(found)]
    if marks is not None and all(verdict.allowed for verdict in found):
        for question, reply, verdict in zip(questions, replies, found, strict=True):
            if not verdict.shadowed:
                marks.append((question, reply[2]))
    return found


def _found(questions: Sequence[Question], replies: Sequence[Reply]) -> list[Verdict]:
    found = [_decided_one(question, reply) for question, reply in zip(questions, replies, strict=True)]
    passes = all(verdict.allowed for verdict in found)
    undecided = any(reply[0] == ERROR for reply in replies)
    for question, reply, verdict in zip(questions, replies, found, strict=True):
        if reply[0] != ERROR:  # that one was counted
            question.policy.count(verdict, charged=passes and not undecided)
    return found


def _decided_one(question: Question, reply: Reply) -> Verdict:
    try:
        return decided(question, reply)
    except UsageError:
        raise
    except ForebayError as error:  # this key alone
        return stand_in(question, error, charging=True)


async def _looked_at(port: Port, group: Sequence[tuple[_Place, Question]]) -> dict[_Place, Verdict]:
    """Look where keys stand that need not be charged any more: another slot has refused."""
    questions = [question for _, question in group]
    try:
        replies = await asked_alone(port, "peek", questions)
        if len(group) == 1:
            replies = [replies]
        found = [decided(question, reply, counts=False) for question, reply in zip(questions, replies, strict=True)]
    except UsageError:
        raise
    except ForebayError as error:
        return {place: stand_in(question, error, charging=False) for place, question in group}
    for at, (question, verdict) in enumerate(zip(questions, found, strict=True)):
        if not verdict.allowed and question.policy.options.shadow:
            found[at] = let_through(verdict)
    return {place: verdict for (place, _), verdict in zip(group, found, strict=True)}
