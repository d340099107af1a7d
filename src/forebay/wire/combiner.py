"""threads: whoever finds every turn taken queues a command, and the next thread with a turn sends all that wait in one write.

A thread that sleeps on a socket costs two hand-overs of the interpreter lock, and a command sent along with others costs none.
Those who were sent along wake one another, each the next one: woken all at once they would fight for the lock. Turns pass from
thread to thread in the order of arrival. No command is in two hands: it is in the queue, or taken out of it by exactly one
thread, which settles it or passes its own turn on to the thread behind it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Generic, TypeVar

from ..errors import ConnectionLost, Overloaded
from .resp import Reply

__all__ = ["Combiner"]

C = TypeVar("C")

_MOST: Final = 64  # commands in one write


class _Waiting(Generic[C]):
    """A queued command and the thread that sleeps behind it."""

    __slots__ = ("bell", "error", "has_turn", "left", "next", "packed", "reply", "rung", "settled")

    def __init__(self, packed: C) -> None:
        self.packed = packed
        self.bell = threading.Lock()  # held until it is settled and its turn to wake has come, or has the turn to send
        self.bell.acquire()
        self.has_turn = False
        self.settled = False
        self.rung = False
        self.left = False
        self.next: list[_Waiting[C]] = []  # whom to wake next; whoever takes it out does so
        self.reply: Reply = None
        self.error: Exception | None = None

    def settle(self, reply: Reply) -> None:
        self.reply = reply
        self.settled = True

    def fail(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self.error = type(error)(*error.args)  # one of its own: a traceback belongs to one thread
        else:
            self.error = ConnectionLost(f"the thread that sent this command along with its own was ended by {type(error).__name__}")
        self.error.__cause__ = error
        self.settled = True

    def ring(self) -> None:
        """Wake the thread; if it has left meanwhile, the one behind it."""
        self.rung = True
        self.bell.release()
        if self.left:
            self.ring_next()

    def ring_next(self) -> None:
        try:
            behind = self.next.pop()
        except IndexError:  # there is none, or it was woken already
            return
        behind.ring()

    def leave(self) -> None:
        """The thread was interrupted, and will not hear the bell: see to it that the one behind is woken all the same."""
        self.left = True
        if self.rung:
            self.ring_next()

    def outcome(self) -> Reply:
        if self.error is not None:
            raise self.error
        return self.reply


class Combiner(Generic[C]):
    """At most *turns* threads exchange at once; *one* and *many* do it, for one command and for several: packed, or whatever they take.

    A command that nobody has taken within *patience* seconds was not sent, and fails with `Overloaded`.
    """

    def __init__(self, one: Callable[[C], Reply], many: Callable[[list[C]], list[Reply]], turns: int, patience: float) -> None:
        self._one = one
        self._many = many
        self._patience = patience
        self._turns = [None] * turns  # list.pop, list.append and the deque's methods are atomic
        self._count = turns
        self._holders: set[int] = set()  # threads that have a turn
        self._queue: deque[_Waiting[C]] = deque()

    def call(self, packed: C) -> Reply:
        """Return the reply to one command; a refusal is returned as a `ServerError` value.

        Raises:
            Overloaded: it was not sent in time.
            Unavailable, Closed: whatever the exchange raised.
        """
        # A thread that was interrupted between two steps, by a signal's exception, may still have the turn that it never passed on.
        if threading.get_ident() not in self._holders and not self._take_turn():
            waiting = _Waiting(packed)
            self._wait(waiting)
            if not waiting.has_turn:
                waiting.ring_next()
                return waiting.outcome()
            self._holders.add(threading.get_ident())
        along: list[_Waiting[C]] = []
        try:
            if not self._queue:
                return self._one(packed)
            self._take_along(along)
            first, *others = self._many([packed, *(waiting.packed for waiting in along)])
            for waiting, reply in zip(along, others, strict=True):
                waiting.settle(reply)
        except BaseException as error:
            for waiting in along:
                if not waiting.settled:
                    waiting.fail(error)
            raise
        else:
            return first
        finally:
            for waiting, behind in pairwise(along):
                waiting.next.append(behind)
            if along:
                along[0].ring()
            self._pass_turn()

    @property
    def waiting(self) -> int:
        """How many commands are queued."""
        return len(self._queue)

    def _take_turn(self) -> bool:
        try:
            self._turns.pop()
        except IndexError:
            return False
        self._holders.add(threading.get_ident())
        return True

    def _find_turn(self) -> None:
        """Put back a turn that nobody has any more: its thread was interrupted before it could say so, or has ended."""
        self._holders &= {thread.ident for thread in threading.enumerate() if thread.ident is not None}
        if len(self._turns) + len(self._holders) < self._count:
            self._turns.append(None)

    def _take_along(self, along: list[_Waiting[C]]) -> None:
        try:
            while len(along) < _MOST - 1:
                along.append(self._queue.popleft())
        except IndexError:
            pass

    def _pass_turn(self) -> None:
        self._holders.discard(threading.get_ident())
        while True:
            try:
                waiting = self._queue.popleft()
            except IndexError:
                self._turns.append(None)
                # Who queued after that look, and found no turn before it was put back, would sleep: look again.
                if not self._queue or not self._take_turn():
                    return
            else:
                waiting.has_turn = True
                waiting.ring()
                return

    def _wait(self, waiting: _Waiting[C]) -> None:
        """Return once *waiting* is settled, or has the turn."""
        self._queue.append(waiting)
        try:
            if self._take_turn():  # one came free meanwhile
                if self._withdraw(waiting):
                    waiting.has_turn = True
                    return
                self._pass_turn()
            if not waiting.bell.acquire(timeout=self._patience):
                if self._withdraw(waiting):
                    self._find_turn()
                    raise Overloaded(
                        f"every connection was busy for {self._patience:g} s, and this command was not sent; "
                        "raise REDIS_POOL_SIZE or call from fewer threads"
                    )
                waiting.bell.acquire()  # a thread has it in hand, and its own deadline
        except Overloaded:
            raise
        except BaseException:  # interrupted: what cannot be withdrawn must be waited for, for it may be given the turn
            if not self._withdraw(waiting):
                if not (waiting.settled or waiting.has_turn):  # else the bell may have rung, and been heard
                    waiting.bell.acquire()
                if waiting.has_turn:
                    self._pass_turn()
                else:
                    waiting.leave()
            raise

    def _withdraw(self, waiting: _Waiting[C]) -> bool:
        try:
            self._queue.remove(waiting)
        except ValueError:
            return False
        return True

    def __repr__(self) -> str:
        return f"<Combiner, {len(self._turns)} turns free, {len(self._queue)} waiting>"
