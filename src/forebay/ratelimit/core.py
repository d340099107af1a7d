"""Every operation of a limiter, once for both colours. A decision is one round trip, or none where this process knows the answer."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from msgspec.structs import replace

from ..durations import Duration, to_ms, to_seconds
from ..errors import ForebayError, InvalidCost, UsageError
from ..keys import Key
from ..port.port import Promise
from .asking import again, ask_one, asked_alone
from .deciding import by_two, decided, limited, recalled, stand_in
from .line import Line
from .names import LONGEST, text_of
from .options import check_rates
from .policy import Policy, Question
from .rate import Rate, RateLike, pack_rates, rates_of, stored_rates
from .scripts import OWN_RATES
from .slots import Slots
from .stock import Stock
from .verdict import Verdict

__all__ = ["LimiterCore", "asked"]

_SLICE: Final = 0.25  # seconds after which who waits for room asks again: a reset or a raised limit may have made some


class LimiterCore:
    """A limit under one name. Get it from `AsyncForebay.limiter` or `Forebay.limiter`."""

    def __init__(self, policy: Policy) -> None:
        options, port = policy.options, policy.port
        self.policy = policy
        self.slots = Slots(
            port, policy.name, policy.names, policy.reporter, options.concurrency or 0, options.slot_lease_us, shadow=options.shadow
        )
        self._port = port
        self._name = policy.name
        self._tally = policy.tally
        self._held = policy.held
        self._line = Line(port.promise)
        self._stock = None if options.lease is None else Stock(port.promise, options.lease, options.lease_for)
        self._rates = options.rates if options.rate_for is None else ()
        self._exempts = options.exempt is not None

    @property
    def name(self) -> str:
        """The name of the policy."""
        return self.policy.name

    async def hit(self, key: Key, cost: int = 1) -> Verdict:
        """Charge *cost* to *key* if there is room for all of it; else charge nothing.

        Raises:
            InvalidKey: the key is empty, or neither text, a whole number nor a UUID.
            InvalidCost: the cost is no whole number from 1 on, or above what could ever pass at once. Nothing was charged.
            InvalidRate: what ``rate_for`` returned cannot be used.
            UsageError: this limiter has no rate.
        """
        if self._held:
            verdict = self.policy.recall(key, cost)
            if verdict is not None:
                return verdict
        text = key if type(key) is str and 0 < len(key) <= LONGEST else text_of(key)
        rates = self._rates or self.policy.rates_asked(key)
        if type(cost) is not int or cost < 1:
            raise _no_cost(cost)
        if self._exempts and self.policy.is_exempt(key):
            return self.policy.exempted(rates)
        if self._held:
            found = self.policy.known(text, rates, cost)
            if found is not None:
                return recalled(self.policy, found, text)
        if self._stock is not None:
            verdict = await self._from_stock(self._stock, Question(self.policy, text, rates, cost))
            if verdict is not None:
                return verdict
        try:
            try:
                reply = await ask_one(self._port, self.policy, text, rates, cost)
            except ForebayError as error:
                reply = await again(error, self._port, [Question(self.policy, text, rates, cost)])
            if len(reply) == 2:  # there was room, by one rate
                self._tally.allowed += 1
                rate = rates[0]
                return Verdict(True, rate.limit, reply[0], 0.0, reply[1] / 1_000_000, self._name, rate)  # noqa: FBT003
            if len(reply) == 4:
                self._tally.allowed += 1
                return by_two(self._name, rates, reply)
            verdict = decided(Question(self.policy, text, rates, cost), reply)
        except UsageError:
            raise
        except ForebayError as error:
            return stand_in(Question(self.policy, text, rates, cost), error, charging=True)
        self.policy.count(verdict)
        return verdict

    async def peek(self, key: Key, cost: int = 1) -> Verdict:
        """Say what `hit` would, and charge nothing. Raises as `hit`."""
        question = asked(self, key, cost)
        if self.policy.is_exempt(key):
            return self.policy.exempted(question.rates, counts=False)
        try:
            return decided(question, await asked_alone(self._port, "peek", [question]), counts=False)
        except UsageError:
            raise
        except ForebayError as error:
            return stand_in(question, error, charging=False)

    async def acquire(self, key: Key, timeout: Duration | None = None, cost: int = 1) -> Verdict:
        """Wait until there is room, then charge *cost*. In one process, who comes first to a key is served first.

        Args:
            timeout: how long to wait at most; None: as long as it takes. Where the room would come too late, nobody waits for it.

        Raises:
            RateLimited: there was no room in time; ``verdict`` says when there would be. Nothing was charged.
            InvalidKey, InvalidCost, InvalidRate, UsageError: as for `hit`.
        """
        limit = None if timeout is None else monotonic() + to_seconds(timeout)
        place = self._line.stand(text_of(key))
        try:
            if not await place.reached(None if limit is None else limit - monotonic()):
                raise limited(replace(await self.peek(key, cost), allowed=False))  # others came first, whatever room there is
            while True:
                verdict = await self.hit(key, cost)
                if verdict.allowed:
                    return verdict
                if limit is not None and verdict.retry_after > limit - monotonic():
                    raise limited(verdict)
                await self._port.waiting.sleep(min(verdict.retry_after, _SLICE))
        finally:
            place.leave()

    async def reset(self, key: Key) -> bool:
        """Forget what *key* has used, everywhere at once; return whether it had used anything. Its own rates stay, and slots too.

        Raises:
            Unavailable, ServerError: it may not have been forgotten.
        """
        text = text_of(key)
        names = self.policy.names.of(text)
        self._forget(text, names)
        existed = await self._port.execute("UNLINK", names[0], idempotent=True)
        self._forget(text, names)
        return bool(existed)

    async def set_rates(self, key: Key, rate: RateLike, ttl: Duration) -> None:
        """Give *key* rates of its own, in every process at once, without a restart: a plan, a friend, a penalty.

        What it has used stays used. They come before ``rate_for``, and end after *ttl*.

        Raises:
            InvalidRate, InvalidDuration: they cannot be used.
            Unavailable, ServerError: they may not have been set.
        """
        rates = check_rates(rates_of(rate), self.policy.options.law)
        await self._set_own(text_of(key), pack_rates(rates), to_ms(ttl))

    async def clear_rates(self, key: Key) -> bool:
        """Take its own rates from *key*; return whether it had some. Raises as `set_rates`."""
        return bool(await self._set_own(text_of(key), "", 0))

    async def rates(self, key: Key) -> tuple[Rate, ...]:
        """Return the rates that hold for *key*: its own, those of ``rate_for``, or the limiter's.

        Raises:
            Unavailable, ServerError: they cannot be known.
        """
        return await self.own_rates(key) or self.policy.rates_asked(key)

    async def own_rates(self, key: Key) -> tuple[Rate, ...] | None:
        """Return the rates that `set_rates` gave to *key*; None if it has none. Raises as `rates`."""
        _, own = self.policy.names.of(text_of(key))
        return stored_rates(await self._port.execute("GET", own))

    # units that were charged before

    async def _from_stock(self, stock: Stock, question: Question) -> Verdict | None:
        """Take the cost from units that were charged before, or charge some more; None: ask for this cost alone."""
        while True:
            taken = stock.take(question.text, question.cost, question.rates)
            if taken is None:
                return None
            if isinstance(taken, Verdict):
                self.policy.tally.leased += 1
                self.policy.count(taken)
                return taken
            if not taken.mine:
                await taken.promise.wait()
                continue
            try:
                await self._refill(stock, question, taken.promise)
            finally:
                stock.refilled(question.text, taken.promise)

    async def _refill(self, stock: Stock, question: Question, promise: Promise[None]) -> None:
        more = Question(self.policy, question.text, question.rates, stock.size)
        try:
            verdict = decided(more, await asked_alone(self._port, "hit", [more]), counts=False)
        except InvalidCost:  # rates of its own let less through at once
            stock.dry(question.text, 1.0)
        except UsageError:
            raise
        except ForebayError:  # each caller asks for its own cost, and tells of what happens then
            stock.dry(question.text, _SLICE)
        else:
            stock.put(question.text, verdict, promise)

    async def _set_own(self, text: str, packed: str, ms: int) -> int:
        names = self.policy.names.of(text)
        self._forget(text, names)
        had: int = await OWN_RATES.run(self._port, names, [packed, ms], idempotent=True)
        self._forget(text, names)
        return had

    def _forget(self, text: str, names: tuple[str, str]) -> None:
        self.policy.forget(text, names)
        if self._stock is not None:
            self._stock.drop(text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.policy!r})"


def asked(limiter: LimiterCore, key: Key, cost: int) -> Question:
    """Return what is to be asked of *limiter* about *key*. Raises as `LimiterCore.hit`."""
    if type(cost) is not int or cost < 1:
        raise _no_cost(cost)
    text = key if type(key) is str and 0 < len(key) <= LONGEST else text_of(key)
    return Question(limiter.policy, text, limiter.policy.rates_asked(key), cost)


def _no_cost(cost: Any) -> InvalidCost:
    return InvalidCost(f"cost={cost!r} is no whole number from 1 on; to look only, use peek")
