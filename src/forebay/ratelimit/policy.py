"""What a limiter is, apart from what can be asked of it: its options and names, what it remembers, and what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import UsageError
from ..events import Reporter
from ..keys import Key
from ..port.port import Port
from ..wire.gatherable import bulk
from .algorithms import Judged
from .local import LocalLimits
from .names import LimitNames
from .options import Options, check_rates
from .rate import Rate, pack_rates, rates_of
from .refusals import Refusals, Remembered
from .scripts import LETTERS
from .tally import LimitTally
from .verdict import Verdict

if TYPE_CHECKING:
    from .listening import RefusalListener

__all__ = ["Policy", "Question"]

_MOST_WORDS: Final = 1000  # rates and costs whose words are kept


class Question:
    """What is asked of one policy about one key."""

    __slots__ = ("cost", "policy", "rates", "text")

    def __init__(self, policy: Policy, text: str, rates: tuple[Rate, ...], cost: int) -> None:
        self.policy = policy
        self.text = text
        self.rates = rates
        self.cost = cost

    @property
    def names(self) -> tuple[str, str]:
        """The names of the state, and of the key's own rates."""
        return self.policy.names.of(self.text)


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
        law = LETTERS[options.law]
        self.letter = law.upper() if options.shadow else law
        self._head = bulk(b"hit") + bulk(self.letter.encode())
        self._words: dict[tuple[tuple[Rate, ...], int], tuple[bytes, int]] = {}
        self.one = self.words(options.rates, 1) if options.rates else (b"", 0)  #: what nearly every hit says
        self._refusals = Refusals(port, options.law, options.remember if remembers else 0)
        self.held = self._refusals.held
        self._plain = options.exempt is None and not splits
        self.simple = self._plain and len(options.rates) == 1 and options.rate_for is None and not options.shadow
        self.bands: dict[tuple[Any, ...], Any] = {}  #: see `bands`
        self._quick: Mapping[object, Remembered] = {}
        if options.exempt is None and options.rate_for is None and not options.shadow:
            self._quick = cast("Mapping[object, Remembered]", self.held)
        self._listener = listener
        self._local = LocalLimits(options.remember or 1000)

    @property
    def plain(self) -> bool:
        """Whether a hit needs nothing but the server's answer at this moment."""
        return self._plain and not self.held

    def words(self, rates: tuple[Rate, ...], cost: int) -> tuple[bytes, int]:
        """Return a script's words about a hit, packed, and how many they are: that it is one, law, cost, rates, and what makes it quick."""
        known = self._words.get((rates, cost))
        if known is None:
            if len(self._words) >= _MOST_WORDS:
                self._words.clear()
            known = self._words[rates, cost] = self._hit_words(rates, cost)
        return known

    def _hit_words(self, rates: tuple[Rate, ...], cost: int) -> tuple[bytes, int]:
        words, count = self._head + self.body(rates, cost), 4
        rate = rates[0] if len(rates) == 1 else None
        if self.letter == "g" and rate is not None and rate.period_us % rate.limit == 0 and cost <= rate.burst:
            each, head = rate.period_us // rate.limit, f"{rate.period_us}:{rate.limit}:"
            more = (str(each), str(rate.burst * each), str(cost * each), head, f"^{head}(%d+):0$")
            words, count = words + b"".join(bulk(word.encode()) for word in more), count + len(more)
        return words, count

    def body(self, rates: tuple[Rate, ...], cost: int) -> bytes:
        """Return the two about cost and rates."""
        return bulk(b"%d" % cost) + bulk(pack_rates(rates).encode())

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

    def recall(self, key: Key, cost: int) -> Verdict | None:
        """Return the refusal of a single rate that this process remembers, where the answer depends on nothing else; else None."""
        held = self._quick.get(key) if type(key) is str else None
        if held is None or cost != 1 or type(cost) is not int:
            return None
        now = monotonic()
        if now >= held.refused_until:
            return None
        tally, rate = self.tally, held.rate
        tally.remembered += 1
        tally.refused += 1
        return Verdict(False, rate.limit, 0, held.refused_until - now, held.free_at - now, self.name, rate, "memory")  # noqa: FBT003

    def known(self, text: str, rates: tuple[Rate, ...], cost: int) -> list[tuple[Rate, Judged]] | None:
        """Judge *cost* by what this process remembers; None if that is nothing, or if the cost might pass."""
        held = self.held.get(text)
        if held is None or (held.asked is not rates and held.asked != rates):
            return None
        return held.refused(cost, monotonic())

    def remember(self, question: Question) -> None:
        """Read the state of what was refused, in the background, so that it need not be asked for again."""
        refusals, key, rates = self._refusals, question.text, question.rates
        if not refusals.begin(key, rates, question.names):
            return
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
