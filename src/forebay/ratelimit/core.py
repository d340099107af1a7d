"""Every operation of a limiter, once for both colours. A decision is one round trip, or none where this process knows the answer."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from ..durations import Duration, to_ms, to_seconds
from ..errors import ForebayError, InvalidCost, UsageError
from ..events import Reporter
from ..keys import Key
from ..port.port import Port
from .algorithms import Judged
from .deciding import Ask, ask, in_shadow, limited, stand_in, verdict_of
from .line import Line
from .local import LocalLimits
from .names import LimitNames, text_of
from .options import Options, check_rates
from .rate import Rate, RateLike, pack_rates, rates_of
from .refusals import Refusals, own_rates_of
from .scripts import OWN_RATES
from .slots import Slot, Slots
from .stock import Stock
from .tally import LimitTally
from .verdict import Verdict

if TYPE_CHECKING:
    from .listening import RefusalListener

__all__ = ["LimiterCore"]

_SLICE: Final = 0.25  # seconds after which who waits for room asks again: a reset or a raised limit may have made some


class LimiterCore:
    """A limit under one name. Get it from `AsyncForebay.limiter` or `Forebay.limiter`."""

    def __init__(
        self,
        port: Port,
        prefix: str,
        reporter: Reporter,
        tally: LimitTally,
        options: Options,
        listener: RefusalListener | None,
        *,
        remembers: bool,
        splits: bool,
    ) -> None:
        self.port = port
        self.splits = splits  #: keys are spread over a cluster
        self.options = options
        self.name = options.name
        self.reporter = reporter
        self.tally = tally
        self.names = LimitNames(prefix, options.name, options.law, options.secret)
        self._refusals = Refusals(port, options.law, options.remember if remembers else 0)
        self._held = self._refusals.held
        self._listener = listener
        self._local = LocalLimits(options.remember or 1000)
        self._line = Line(port.promise)
        self.slots = Slots(port, self.name, self.names, reporter, options.concurrency or 0, options.slot_lease_us)
        self._stock = None if options.lease is None else Stock(port.promise, options.lease, options.lease_for)
        self._rates = options.rates
        self._exempt = options.exempt
        self._rate_for = options.rate_for
        self._shadow = options.shadow

    async def hit(self, key: Key, cost: int = 1) -> Verdict:
        """Charge *cost* to *key* if there is room for all of it; else charge nothing.

        Raises:
            InvalidKey: the key is empty, or neither text, a whole number nor a UUID.
            InvalidCost: the cost is no whole number from 1 on, or above what could ever pass at once. Nothing was charged.
            InvalidRate: what ``rate_for`` returned cannot be used.
            UsageError: this limiter has no rate.
        """
        text = key if type(key) is str and 0 < len(key) <= 256 else text_of(key)
        rates = self._rates if self._rate_for is None and self._rates else self.rates_asked(key)
        if type(cost) is not int or cost < 1:
            raise _no_cost(cost)
        if self._held:
            verdict = self.remembered(text, rates, cost)
            if verdict is not None:
                return verdict
        if self._exempt is not None and self._exempt(key):
            return self.exempted(rates)
        if self._stock is not None:
            verdict = await self._from_stock(self._stock, Ask(self, text, rates, cost))
            if verdict is not None:
                return verdict
        return await self._asked(Ask(self, text, rates, cost))

    async def peek(self, key: Key, cost: int = 1) -> Verdict:
        """Say what `hit` would, and charge nothing. Raises as `hit`."""
        question = self.question(key, cost)
        if self._exempt is not None and self._exempt(key):
            return self.exempted(question.rates, counts=False)
        try:
            (answer,) = await ask(self.port, "peek", [question])
        except UsageError:
            raise
        except ForebayError as error:
            return stand_in(question, error, charging=False)
        return answer.verdict

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
                await self.port.waiting.sleep(min(verdict.retry_after, _SLICE))
        finally:
            place.leave()

    async def reset(self, key: Key) -> bool:
        """Forget what *key* has used, everywhere at once; return whether it had used anything. Its own rates stay, and slots too.

        Raises:
            Unavailable, ServerError: it may not have been forgotten.
        """
        text = text_of(key)
        names = self.names.of(text)
        self._drop(text, names)
        existed = await self.port.execute("UNLINK", names[0], idempotent=True)
        self._drop(text, names)
        return bool(existed)

    async def set_rates(self, key: Key, rate: RateLike, ttl: Duration) -> None:
        """Give *key* rates of its own, in every process at once, without a restart: a plan, a friend, a penalty.

        What it has used stays used. They come before ``rate_for``, and end after *ttl*.

        Raises:
            InvalidRate, InvalidDuration: they cannot be used.
            Unavailable, ServerError: they may not have been set.
        """
        rates = check_rates(rates_of(rate), self.options.law)
        await self._own_rates(text_of(key), pack_rates(rates), to_ms(ttl))

    async def clear_rates(self, key: Key) -> bool:
        """Take its own rates from *key*; return whether it had some. Raises as `set_rates`."""
        return bool(await self._own_rates(text_of(key), "", 0))

    async def rates(self, key: Key) -> tuple[Rate, ...]:
        """Return the rates that hold for *key*: its own, those of ``rate_for``, or the limiter's.

        Raises:
            Unavailable, ServerError: they cannot be known.
        """
        _, own = self.names.of(text_of(key))
        return own_rates_of(await self.port.execute("GET", own)) or self.rates_asked(key)

    async def take_slot(self, key: Key, timeout: Duration | None) -> Slot:
        """Return a slot of *key*; see `AsyncLimiter.slot`."""
        text = text_of(key)
        if self.is_exempt(key):
            return self.slots.unlimited(text)
        return await self.slots.take(text, None if timeout is None else to_seconds(timeout), self.options.on_outage != "closed")

    # for those who decide about several

    def question(self, key: Key, cost: int) -> Ask:
        """Return what is to be asked about *key*. Raises as `hit`."""
        if type(cost) is not int or cost < 1:
            raise _no_cost(cost)
        return Ask(self, text_of(key), self.rates_asked(key), cost)

    def rates_asked(self, key: Key) -> tuple[Rate, ...]:
        """Return the rates that hold for *key*, unless the server knows some of its own."""
        if not self._rates:
            raise UsageError(f"limiter {self.name!r} has no rate, only slots: give it one, as in limiter({self.name!r}, '100/minute')")
        given = None if self._rate_for is None else self._rate_for(key)
        return self._rates if given is None else check_rates(rates_of(given), self.options.law)

    def is_exempt(self, key: Key) -> bool:
        """Whether *key* is never limited."""
        return self._exempt is not None and self._exempt(key)

    def remembered(self, text: str, rates: tuple[Rate, ...], cost: int) -> Verdict | None:
        """Return the refusal that follows from what this process remembers, if one does."""
        held = self._held.get(text)
        if held is None or (held.asked is not rates and held.asked != rates):
            return None
        found = held.refused(cost, monotonic())
        if found is None:
            return None
        if len(found) == 1:
            ((rate, (_, left, retry, reset)),) = found
            verdict = Verdict(False, rate.limit, left, retry / 1_000_000, reset / 1_000_000, self.name, rate, "memory")  # noqa: FBT003
        else:
            verdict = verdict_of(self.name, found, "memory")
        self.tally.remembered += 1
        if self._shadow:
            verdict = in_shadow(self, verdict, text)
        self.count(verdict)
        return verdict

    def exempted(self, rates: tuple[Rate, ...], *, counts: bool = True) -> Verdict:
        """Return the verdict about a key that is never limited."""
        if counts:
            self.tally.exempt += 1
            self.tally.allowed += 1
        rate = rates[0]
        return Verdict(True, rate.limit, rate.limit, 0.0, 0.0, self.name, rate, "exempt")  # noqa: FBT003

    def remember(self, question: Ask) -> None:
        """Read the state of what was refused, in the background, so that it need not be asked for again."""
        refusals = self._refusals
        if not refusals.begin(question.text, question.names):
            return
        key, rates = question.text, question.rates
        if self._listener is not None:
            begun = self._listener.give(lambda track: refusals.learn(key, rates, track))
        else:
            begun = self.port.background(refusals.learn(key, rates, self.port.track))
        if not begun:
            refusals.abandon(key)

    def local(self, question: Ask, *, charge: bool) -> list[tuple[Rate, Judged]]:
        """Judge by what this process alone has let through."""
        share = self.options.local_of(question.rates)
        return self._local.decide(question.text, share, question.cost, charge=charge)

    def count(self, verdict: Verdict, *, charged: bool = True) -> None:
        """Count a decision; what passes here and was not *charged*, because of another limiter, is none."""
        if not verdict.allowed:
            self.tally.refused += 1
        elif charged:
            self.tally.allowed += 1

    # one decision

    async def _asked(self, question: Ask) -> Verdict:
        try:
            (answer,) = await ask(self.port, "hit", [question])
        except UsageError:
            raise
        except ForebayError as error:
            return stand_in(question, error, charging=True)
        return answer.verdict

    async def _from_stock(self, stock: Stock, question: Ask) -> Verdict | None:
        """Take the cost from units that were charged before, or charge some more; None: ask for this cost alone."""
        while True:
            taken = stock.take(question.text, question.cost)
            if taken is None:
                return None
            if isinstance(taken, Verdict):
                self.tally.leased += 1
                self.count(taken)
                return taken
            if not taken.mine:
                await taken.promise.wait()
                continue
            try:
                await self._refill(stock, question)
            finally:
                stock.refilled(question.text)

    async def _refill(self, stock: Stock, question: Ask) -> None:
        more = Ask(self, question.text, question.rates, stock.size)
        try:
            (answer,) = await ask(self.port, "hit", [more], counts=False)
        except InvalidCost:  # rates of its own let less through at once
            stock.dry(question.text, 1.0)
        except UsageError:
            raise
        except ForebayError:
            stock.dry(question.text, 0.0)
        else:
            stock.put(question.text, answer.verdict)

    async def _own_rates(self, text: str, packed: str, ms: int) -> int:
        names = self.names.of(text)
        self._drop(text, names)
        had: int = await OWN_RATES.run(self.port, names, [packed, ms], idempotent=True)
        self._drop(text, names)
        return had

    def _drop(self, text: str, names: tuple[str, str]) -> None:
        self.port.tracking.changed([name.encode() for name in names])
        if self._stock is not None:
            self._stock.drop(text)
        self._local.drop(text)

    def __repr__(self) -> str:
        rates = ", ".join(map(str, self._rates))
        slots = f"{self.options.concurrency} at once" if self.options.concurrency else ""
        shadow = ", shadow" if self._shadow else ""
        return f"{type(self).__name__}({self.name!r}, {', '.join(filter(None, (repr(rates) if rates else '', slots)))}{shadow})"


def _no_cost(cost: Any) -> InvalidCost:
    return InvalidCost(f"cost={cost!r} is no whole number from 1 on; to look only, use peek")
