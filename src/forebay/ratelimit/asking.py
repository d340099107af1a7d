"""From questions to the script that answers them: all that stand in one record are charged, or none is.

On asyncio the records of one tick are one call. Nothing is asked twice that may have been charged.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

from ..errors import ConnectFailed, ForebayError, NoScript, Redirected, Refused, Unavailable, UsageError
from ..events import RefundFailed
from ..forks import renew_after_fork
from ..port.port import Port, Promise, Reply
from ..wire.gatherable import Gatherable, bulk
from ..wire.hurry import DECISION, EVALSHA
from ..wire.resilience import LASTING
from ..wire.resp import Arg
from .policy import Policy, Question
from .rate import Rate, pack_rates, stored_rates
from .scripts import decides

__all__ = ["SCRIPT", "again", "ask", "ask_one", "asked_alone", "refund", "words_of"]

SCRIPT: Final = Gatherable(EVALSHA[DECISION], decides().digest)
_MOVING: Final = ("ASK", "TRYAGAIN")
_HIT: Final = bulk(b"hit")
_MOST_WORDS: Final = 1000  # what is asked together, whose words are kept
_words: dict[tuple[bytes, ...], bytes] = {}  # by the words of each for itself


class _Loading:
    """Who sends the script to a server that has lost it, for each bay."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with nobody, in a forked child: they run in the parent."""
        self._lock = threading.Lock()
        self._under_way: WeakKeyDictionary[Port, Promise[None]] = WeakKeyDictionary()

    def begin(self, port: Port) -> Promise[None] | None:
        """Return what to wait for, or None if the caller is to do it, and to `end` it."""
        with self._lock:
            found = self._under_way.get(port)
            if found is None:
                self._under_way[port] = port.promise()
            return found

    def end(self, port: Port) -> None:
        """Let those go on who wait."""
        with self._lock:
            promise = self._under_way.pop(port)
        promise.keep(None)


_loading: Final = _Loading()


def ask_one(port: Port, policy: Policy, text: str, rates: tuple[Rate, ...], cost: int) -> Awaitable[Reply]:
    """Return what brings the reply to one hit. What that raises goes to `again`."""
    words, count = policy.one if cost == 1 and rates is policy.options.rates else policy.words(rates, cost)
    gathered = port.gather(SCRIPT, policy.names.packed(text), 2, words, count)
    return asked_alone(port, "hit", [Question(policy, text, rates, cost)]) if gathered is None else gathered


def ask(port: Port, questions: Sequence[Question]) -> Awaitable[Reply]:
    """Return what brings the replies to *questions*, of several policies or keys, in a list. Then as `ask_one`."""
    keys = b"".join([question.policy.names.packed(question.text) for question in questions])
    words = words_of(questions)
    gathered = port.gather(SCRIPT, keys, 2 * len(questions), words, 2 + 2 * len(questions))
    return asked_alone(port, "hit", questions) if gathered is None else gathered


def words_of(questions: Sequence[Question]) -> bytes:
    """Return the script's words for hits that are asked together, packed: two, and two for each."""
    singly = tuple([question.policy.words(question.rates, question.cost)[0] for question in questions])
    words = _words.get(singly)
    if words is None:
        if len(_words) >= _MOST_WORDS:
            _words.clear()
        letters = bulk("".join([question.policy.letter for question in questions]).encode())
        bodies = [question.policy.body(question.rates, question.cost) for question in questions]
        words = _words[singly] = b"".join((_HIT, letters, *bodies))
    return words


async def again(error: ForebayError, port: Port, questions: Sequence[Question]) -> Reply:
    """Ask anew after *error*, if nothing can have been charged and it was not repeated yet; or raise it."""
    if isinstance(error, NoScript):
        return await _after_loading(port, questions)
    if getattr(error, "final", False):
        raise error
    if isinstance(error, ConnectFailed | Redirected) or (isinstance(error, Refused) and error.code not in LASTING):
        return await asked_alone(port, "hit", questions)
    raise error


async def _after_loading(port: Port, questions: Sequence[Question]) -> Reply:
    """Ask anew on a server that has lost the script. Of all who find that, one sends the source, and the others wait for that."""
    loading = _loading.begin(port)
    if loading is not None:
        await loading.wait()
        try:
            if len(questions) > 1:
                return await ask(port, questions)
            (question,) = questions
            return await ask_one(port, question.policy, question.text, question.rates, question.cost)
        except NoScript:  # nobody could load it, or it was lost again
            return await asked_alone(port, "hit", questions)
    try:
        return await asked_alone(port, "hit", questions)
    finally:
        _loading.end(port)


async def asked_alone(
    port: Port, mode: Literal["hit", "charge", "peek", "refund"], questions: Sequence[Question], marks: Sequence[int] = ()
) -> Any:
    """Ask in a call of its own. Return the reply to one question, or those to several."""
    keys = [name for question in questions for name in question.names]
    words: list[Arg] = [mode, "".join(question.policy.letter for question in questions)]
    for at, question in enumerate(questions):
        words += (f"{question.cost}:{marks[at]}" if marks else question.cost, pack_rates(question.rates))
    if len(questions) == 1 and questions[0].policy.splits:
        return await _asked_where_slots_move(port, keys, words, idempotent=mode == "peek")
    (reply,) = await decides().run(port, keys, words, idempotent=mode == "peek", hurry=DECISION)
    return reply


async def _asked_where_slots_move(port: Port, keys: list[str], words: list[Arg], *, idempotent: bool) -> Reply:
    """Ask a cluster about one key. While its slot moves, a script may name no second one: then the key's own rates are read before."""
    command: tuple[Arg, ...] = (EVALSHA[DECISION], decides().digest, len(keys), *keys, *words)
    try:
        try:
            (reply,) = await port.send(*command)
        except Unavailable as error:
            if isinstance(error, Refused) and error.code in _MOVING:
                raise
            (reply,) = await port.again(error, command, idempotent=idempotent)
    except NoScript:
        (reply,) = await decides().run(port, keys, words, idempotent=idempotent, hurry=DECISION)
    except Refused as error:
        if error.code not in _MOVING:
            raise
        own = await port.execute("Get", keys[1])
        if stored_rates(own) is not None:
            words[-1] = own
        words[0] = "charge" if words[0] == "hit" else words[0]  # which is answered in full
        (reply,) = await decides().run(port, [keys[0]] * 2, words, idempotent=idempotent, hurry=DECISION)
        if words[-1] is own and reply[0] >= -1:
            reply[1] = own
    return reply


async def refund(port: Port, charged: Iterable[tuple[Question, int]]) -> None:
    """Give back what was charged, by the marks of the replies. What cannot be given back is reported, and is free again with time."""
    for question, mark in charged:
        try:
            await asked_alone(port, "refund", [question], [mark])
        except UsageError:
            raise
        except ForebayError as error:
            question.policy.reporter.report(RefundFailed(error, question.policy.name, question.text))
