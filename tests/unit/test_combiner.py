"""Commands that threads send together: each reply to its own, every end of the thread that sends, and nobody left asleep."""

import random
import signal
import threading

import pytest

from forebay import ConnectionLost, DeadlineExceeded, Overloaded
from forebay.wire.combiner import Combiner


class Exchange:
    """Answers ``b"x"`` with ``b"x!"``. Each call says that it began, and waits to be let go; a thread may be told to fail."""

    def __init__(self, held=True):
        self.batches = []
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.held = held
        self.failure = None
        self.lock = threading.Lock()

    def many(self, packed):
        with self.lock:
            self.batches.append(list(packed))
        self.began.release()
        if self.held:
            assert self.go.acquire(timeout=10)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return [one + b"!" for one in packed]

    def one(self, packed):
        return self.many([packed])[0]


class Caller(threading.Thread):
    def __init__(self, combiner, packed):
        super().__init__(daemon=True)
        self.combiner, self.packed, self.result = combiner, packed, None
        self.start()

    def run(self):
        try:
            self.result = self.combiner.call(self.packed)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.result = error

    def outcome(self):
        self.join(10)
        assert not self.is_alive(), "left asleep"
        return self.result


def make(exchange, turns=1, patience=10.0):
    return Combiner(exchange.one, exchange.many, turns, patience)


def queued(combiner, count):
    while combiner.waiting < count:
        threading.Event().wait(0.0005)


def busy(exchange, combiner, *commands):
    """A leader in the middle of its exchange, and callers queued behind it, in order."""
    leader = Caller(combiner, b"leader")
    assert exchange.began.acquire(timeout=10)
    callers = []
    for command in commands:
        callers.append(Caller(combiner, command))
        queued(combiner, len(callers))
    return leader, callers


def test_alone_a_command_goes_at_once():
    exchange = Exchange(held=False)
    combiner = make(exchange)
    assert [combiner.call(b"a"), combiner.call(b"b")] == [b"a!", b"b!"]
    assert exchange.batches == [[b"a"], [b"b"]]


def test_what_waits_leaves_together_in_order_and_each_gets_its_own_reply():
    exchange = Exchange()
    combiner = make(exchange)
    leader, callers = busy(exchange, combiner, b"a", b"b", b"c")
    exchange.go.release(2)
    assert leader.outcome() == b"leader!"
    assert [caller.outcome() for caller in callers] == [b"a!", b"b!", b"c!"]
    assert exchange.batches == [[b"leader"], [b"a", b"b", b"c"]]


def test_one_write_holds_at_most_sixty_four():
    exchange = Exchange()
    combiner = make(exchange)
    _leader, callers = busy(exchange, combiner, *(b"%d" % number for number in range(100)))
    exchange.go.release(3)
    assert [caller.outcome() for caller in callers] == [b"%d!" % number for number in range(100)]
    assert [len(batch) for batch in exchange.batches] == [1, 64, 36]


@pytest.mark.parametrize(
    "failure", [ConnectionLost("broken"), DeadlineExceeded("late"), KeyboardInterrupt()], ids=lambda failure: type(failure).__name__
)
def test_when_the_exchange_fails_everybody_aboard_is_told_and_the_next_one_goes_on(failure):
    exchange = Exchange()
    combiner = make(exchange)
    leader, (first, second) = busy(exchange, combiner, b"a", b"b")
    exchange.go.release()
    assert leader.outcome() == b"leader!"
    assert exchange.began.acquire(timeout=10)  # `first` has the turn, and took `second` along
    third = Caller(combiner, b"c")
    queued(combiner, 1)
    exchange.failure = failure
    exchange.go.release()
    assert first.outcome() is failure
    told = second.outcome()
    assert type(told) is (type(failure) if isinstance(failure, Exception) else ConnectionLost)
    assert told is not failure
    assert told.__cause__ is failure
    exchange.go.release()
    assert third.outcome() == b"c!"
    assert len(combiner._turns) == 1


def test_who_is_not_served_in_time_is_told_that_nothing_was_sent():
    exchange = Exchange()
    combiner = make(exchange, patience=0.05)
    leader, (caller,) = busy(exchange, combiner, b"a")
    with pytest.raises(Overloaded, match="not sent"):
        raise caller.outcome()
    exchange.go.release()
    assert leader.outcome() == b"leader!"
    assert exchange.batches == [[b"leader"]]
    assert combiner.waiting == 0
    exchange.go.release()
    assert combiner.call(b"later") == b"later!"


def test_who_is_being_served_waits_for_the_end_also_past_its_patience():
    exchange = Exchange()
    combiner = make(exchange, patience=0.05)
    leader = Caller(combiner, b"leader")
    assert exchange.began.acquire(timeout=10)
    with exchange.lock:  # the next batch is taken from the queue, and held before it leaves
        callers = [Caller(combiner, b"a"), Caller(combiner, b"b")]
        queued(combiner, 2)
        exchange.go.release()
        assert leader.outcome() == b"leader!"
        threading.Event().wait(0.15)
    exchange.go.release(2)
    assert sorted(caller.outcome() for caller in callers) == [b"a!", b"b!"]


def test_several_turns_exchange_at_once():
    exchange = Exchange()
    combiner = make(exchange, turns=2)
    callers = [Caller(combiner, b"a"), Caller(combiner, b"b")]
    for _ in callers:
        assert exchange.began.acquire(timeout=10)
    exchange.go.release(2)
    assert [caller.outcome() for caller in callers] == [b"a!", b"b!"]
    assert len(combiner._turns) == 2


@pytest.mark.parametrize("_again", range(10))
@pytest.mark.parametrize("moment", ["queued", "aboard"])
def test_an_interrupted_waiter_leaves_nobody_asleep(moment, _again):
    exchange = Exchange()
    combiner = make(exchange)
    leader, others = busy(exchange, combiner, *([b"first"] if moment == "aboard" else []))

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)

    def later():
        queued(combiner, 1 + len(others))
        if moment == "aboard":
            exchange.go.release()  # `first` gets the turn and takes this thread's command along
            assert leader.outcome() == b"leader!"
            while len(exchange.batches) < 2:
                threading.Event().wait(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        if moment == "aboard":
            exchange.go.release()

    helper = threading.Thread(target=later)
    helper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            combiner.call(b"interrupted")
    finally:
        helper.join()
        signal.signal(signal.SIGUSR1, before)
    exchange.go.release(2)
    assert leader.outcome() == b"leader!"
    assert [other.outcome() for other in others] == [b"first!"] * len(others)
    assert combiner.call(b"after") == b"after!"
    assert (len(combiner._turns), combiner.waiting) == (1, 0)


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_many_threads_with_failures_at_random_get_their_own_replies_and_no_turn_is_lost(turns):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    wrong, failed = [], []

    def many(packed):
        if chance.random() < 0.05:
            raise ConnectionLost("broken")
        return [one + b"!" for one in packed]

    combiner = Combiner(lambda packed: many([packed])[0], many, turns, 10.0)

    def work(number):
        for step in range(400):
            command = b"%d:%d" % (number, step)
            try:
                if combiner.call(command) != command + b"!":
                    wrong.append(command)
            except ConnectionLost:
                failed.append(command)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), f"left asleep, seed {seed}"
    assert not wrong, seed
    assert failed, seed
    assert (len(combiner._turns), combiner.waiting) == (turns, 0)
