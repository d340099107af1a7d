"""Several limits and several keys at once: all are charged, or none is.

Where all keys share a slot, which on a single server they always do, one script decides. On a cluster each slot decides for itself, one
after the other: what was charged is given back when a later one refuses. Who dies in between has charged too much, never too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..errors import ForebayError, InvalidCommand, UsageError
from ..keys import Key
from ..port.port import Port
from ..wire.slots import slot_of
from .core import LimiterCore, asked
from .deciding import ask, recalled, refund, stand_in
from .policy import Question
from .verdict import Decision, Verdict

__all__ = ["hit_all"]

_FORM: Final = "give (limiter, key) or (limiter, key, cost) for each"


async def hit_all(port: Port, wanted: Iterable[Sequence[Any]]) -> Decision:
    """Charge every cost to its key, if all limiters let theirs through; else charge nothing.

    Raises:
        InvalidKey, InvalidCost, InvalidRate, UsageError: as `LimiterCore.hit`, for the first that cannot be; nothing was charged.
    """
    listed = [_read(port, each) for each in wanted]
    if not listed:
        raise InvalidCommand(f"hit_all was given nothing: {_FORM}")
    verdicts: dict[tuple[str, str], Verdict] = {}
    asks: dict[tuple[str, str], Question] = {}
    places = []
    for limiter, key, cost in listed:
        question = asked(limiter, key, cost)
        place = limiter.name, question.text
        places.append(place)
        if limiter.policy.is_exempt(key):
            verdicts[place] = limiter.policy.exempted(question.rates)
        elif place not in asks:
            asks[place] = question
        elif asks[place].policy is limiter.policy:
            asks[place].cost += cost  # one key, asked for twice
        else:
            raise UsageError(f"two limiters are called {limiter.name!r}, and would decide about one key at once: name them apart")
    refusals = []
    for each in asks.values():
        found = None if each.policy.options.shadow else each.policy.known(each.text, each.rates, each.cost)
        if found is not None:
            refusals.append(recalled(each.policy, found, each.text))
    if refusals:
        return Decision(tuple(refusals))
    verdicts |= await _decided(port, asks)
    return Decision(tuple(verdicts[place] for place in places))


def _read(port: Port, given: Sequence[Any]) -> tuple[LimiterCore, Key, int]:
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise InvalidCommand(f"hit_all cannot read {given!r}: {_FORM}")
    limiter = getattr(given[0], "_core", given[0])  # that of threads has one, that of asyncio is one
    if not isinstance(limiter, LimiterCore):
        raise InvalidCommand(f"hit_all cannot ask {given[0]!r}: {_FORM}")
    if limiter.policy.port is not port:
        raise UsageError(f"limiter {limiter.name!r} is of another bay: what one script decides has one server")
    return limiter, given[1], given[2] if len(given) == 3 else 1


async def _decided(port: Port, asks: dict[tuple[str, str], Question]) -> dict[tuple[str, str], Verdict]:
    verdicts: dict[tuple[str, str], Verdict] = {}
    charged: list[tuple[Question, int]] = []
    groups: dict[int, list[tuple[tuple[str, str], Question]]] = {}
    for place, question in asks.items():
        groups.setdefault(slot_of(question.names[0]) if question.policy.splits else 0, []).append((place, question))
    try:
        for group in groups.values():
            if all(verdict.allowed for verdict in verdicts.values()):
                charged += await _decided_group(port, group, verdicts)
            else:
                verdicts |= await _looked_at(port, group)
    except BaseException:
        if charged:
            port.background(refund(port, charged))
        raise
    if charged and not all(verdict.allowed for verdict in verdicts.values()):
        for question, _ in charged:
            question.policy.tally.allowed -= 1
        await refund(port, charged)
    return verdicts


async def _decided_group(
    port: Port, group: Sequence[tuple[tuple[str, str], Question]], verdicts: dict[tuple[str, str], Verdict]
) -> list[tuple[Question, int]]:
    """Put the verdicts of one slot to the others; return what was charged, by which it can be given back."""
    try:
        answers = await ask(port, "hit", [question for _, question in group])
    except UsageError:
        raise
    except ForebayError as error:
        verdicts.update((place, stand_in(question, error, charging=True)) for place, question in group)
        return []
    verdicts.update((place, answer.verdict) for (place, _), answer in zip(group, answers, strict=True))
    if not all(answer.verdict.allowed for answer in answers):
        return []
    return [(question, answer.mark) for (_, question), answer in zip(group, answers, strict=True) if not answer.verdict.shadowed]


async def _looked_at(port: Port, group: Sequence[tuple[tuple[str, str], Question]]) -> dict[tuple[str, str], Verdict]:
    """Look where keys stand that need not be charged any more: another slot has refused."""
    try:
        answers = await ask(port, "peek", [question for _, question in group])
    except UsageError:
        raise
    except ForebayError as error:
        return {place: stand_in(question, error, charging=False) for place, question in group}
    return {place: answer.verdict for (place, _), answer in zip(group, answers, strict=True)}
