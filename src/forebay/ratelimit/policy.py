"""What a limiter is, apart from what can be asked of it: its options and names, what it remembers, and what it counts."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..events import Reporter
from ..keys import Key
from ..port.port import Port
from .algorithms import Judged
from .local import LocalLimits
from .names import LimitNames
from .options import Options, check_rates
from .rate import Rate, pack_rates, rates_of
from .refusals import Refusals
from .tally import LimitTally
from .verdict import Verdict

if TYPE_CHECKING:
    from .listening import RefusalListener

__all__ = ["Policy", "Question"]


class Question:
    """What is asked of one policy about one key."""

    __slots__ = ("cost", "names", "policy", "rates", "text")

    def __init__(self, policy: Policy, text: str, rates: tuple[Rate, ...], cost: int) -> None:
        self.policy = policy
        self.text = text
        self.rates = rates
        self.cost = cost
        self.names = policy.names.of(text)

    @property
    def packed_rates(self) -> str:
        """The rates as scripts read them."""
        return self.policy.packed_rates if self.rates is self.policy.options.rates else pack_rates(self.rates)


class Policy:
    """One limiter's. *splits*: its keys are spread over a cluster."""

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
        self.splits = splits
        self.options = options
        self.name = options.name
        self.reporter = reporter
        self.tally = tally
        self.names = LimitNames(prefix, options.name, options.law, options.secret)
        self.packed_rates = pack_rates(options.rates)
        self._refusals = Refusals(port, options.law, options.remember if remembers else 0)
        self.held = self._refusals.held
        self._listener = listener
        self._local = LocalLimits(options.remember or 1000)

    def rates_asked(self, key: Key) -> tuple[Rate, ...]:
        """Return the rates that hold for *key*, unless the server knows some of its own.

        Raises:
            UsageError: there are none.
            InvalidRate: what ``rate_for`` returned cannot be used.
        """
        options = self.options
        if not options.rates:
            raise UsageError(f"limiter {self.name!r} has no rate, only slots: give it one, as in limiter({self.name!r}, '100/minute')")
        given = None if options.rate_for is None else options.rate_for(key)
        return options.rates if given is None else check_rates(rates_of(given), options.law)

    def is_exempt(self, key: Key) -> bool:
        """Whether *key* is never limited."""
        return self.options.exempt is not None and self.options.exempt(key)

    def exempted(self, rates: tuple[Rate, ...], *, counts: bool = True) -> Verdict:
        """Return the verdict about a key that is never limited."""
        if counts:
            self.tally.exempt += 1
            self.tally.allowed += 1
        rate = rates[0]
        return Verdict(True, rate.limit, rate.limit, 0.0, 0.0, self.name, rate, "exempt")  # noqa: FBT003

    def known(self, text: str, rates: tuple[Rate, ...], cost: int) -> list[tuple[Rate, Judged]] | None:
        """Judge *cost* by what this process remembers; None if that is nothing, or if the cost might pass."""
        held = self.held.get(text)
        if held is None or (held.asked is not rates and held.asked != rates):
            return None
        return held.refused(cost, monotonic())

    def remember(self, question: Question) -> None:
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

    def local(self, question: Question, *, charge: bool) -> list[tuple[Rate, Judged]]:
        """Judge by what this process alone has let through."""
        share = self.options.local_of(question.rates)
        return self._local.decide(question.text, share, question.cost, charge=charge)

    def forget(self, text: str, names: tuple[str, str]) -> None:
        """Forget what is known here of a key, whose *names* are about to change on the server, or have."""
        self.port.tracking.changed([name.encode() for name in names])
        self._local.drop(text)

    def count(self, verdict: Verdict, *, charged: bool = True) -> None:
        """Count a decision; what passes here and was not *charged*, because of another limiter, is none."""
        if not verdict.allowed:
            self.tally.refused += 1
        elif charged:
            self.tally.allowed += 1

    def __repr__(self) -> str:
        rates = ", ".join(map(str, self.options.rates))
        slots = f"{self.options.concurrency} at once" if self.options.concurrency else ""
        shadow = "shadow" if self.options.shadow else ""
        return ", ".join(filter(None, (repr(self.name), rates and repr(rates), slots, shadow)))
