"""Who keeps the right entries, and what it costs: the near tier's policy, others, and packages on the same streams.

``python -m benchmarks.near_policy`` needs no server. Hit rates depend on nothing but the seed, save those of theine and moka, which
differ from run to run by a point or two; times are medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import accumulate, islice

import cachebox
import moka_py
import theine

from benchmarks.measure import Series, ratio
from forebay.cache.near import Held, Near

KEYS = 50_000
SIZES = (500, 2_500, 10_000)
REQUESTS = 200_000
_SPEED_SIZE = 10_000
_SPEED_REQUESTS = 50_000
_THREADS = 8
_SEED = 7

Request = Callable[[str], bool]
"""Ask for a name, and store it if it is not there; was it there?"""


# Who is compared ------------------------------------------------------------------------------------------------------------


def near(size: int) -> Request:
    """The store of the near tier, as a cache uses it."""
    store = Near(max_entries=size, max_bytes=None)
    look = store.held.get

    def request(name: str) -> bool:
        held = look(name)
        if held is not None:
            held.seen = True
            return True
        store.settle(store.begin(name), Held(data=b"1", size=1))
        return False

    return request


def lru(size: int) -> Request:
    """The baseline: an ``OrderedDict`` and the lock that each hit needs, because it moves something."""
    held: OrderedDict[str, bytes] = OrderedDict()
    lock = threading.Lock()

    def request(name: str) -> bool:
        with lock:
            if name in held:
                held.move_to_end(name)
                return True
            if len(held) >= size:
                held.popitem(last=False)
            held[name] = b"1"
            return False

    return request


class _Node:
    __slots__ = ("name", "seen")

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = False


def sieve(size: int) -> Request:
    """SIEVE (NSDI 2024), the simplest policy that needs no lock for a hit. Two queues: what the hand has passed, and what lies ahead."""
    held: dict[str, _Node] = {}
    lock = threading.Lock()
    passed: deque[_Node] = deque()
    ahead: deque[_Node] = deque()

    def request(name: str) -> bool:
        nonlocal passed, ahead
        found = held.get(name)
        if found is not None:
            found.seen = True
            return True
        with lock:
            while len(held) >= size:
                if not ahead:
                    ahead, passed = passed, ahead
                node = ahead.popleft()
                if node.seen:
                    node.seen = False
                    passed.append(node)
                else:
                    del held[node.name]
            held[name] = node = _Node(name)
            ahead.append(node)
            return False

    return request


def of_cachebox(kind: Callable[[int], cachebox.LRUCache[str, bytes] | cachebox.LFUCache[str, bytes]]) -> Callable[[int], Request]:
    """A cache of cachebox (Rust)."""

    def build(size: int) -> Request:
        cache = kind(size)
        look = cache.get

        def request(name: str) -> bool:
            if look(name) is not None:
                return True
            cache[name] = b"1"
            return False

        return request

    return build


def of_moka(size: int) -> Request:
    """moka (Rust) with TinyLFU."""
    cache: moka_py.Moka[str, bytes] = moka_py.Moka(size, policy="tiny_lfu")
    look, store = cache.get, cache.set

    def request(name: str) -> bool:
        if look(name) is not None:
            return True
        store(name, b"1")
        return False

    return request


def of_theine(size: int) -> Request:
    """theine (Rust core) with W-TinyLFU."""
    cache: theine.Cache[str, bytes] = theine.Cache(size)
    look, store = cache.get, cache.set

    def request(name: str) -> bool:
        if look(name)[1]:
            return True
        store(name, b"1")
        return False

    return request


NEAR = "forebay near"
PEERS: dict[str, Callable[[int], Request]] = {
    NEAR: near,
    "LRU and a lock": lru,
    "SIEVE": sieve,
    "cachebox LRU": of_cachebox(cachebox.LRUCache),
    "cachebox LFU": of_cachebox(cachebox.LFUCache),
    "moka TinyLFU": of_moka,
    "theine W-TinyLFU": of_theine,
}


# What is asked for ----------------------------------------------------------------------------------------------------------


def _zipf(count: int, skew: float, rng: random.Random, *, shuffled: bool = True) -> list[int]:
    ids = list(range(KEYS))
    if shuffled:
        rng.shuffle(ids)
    return rng.choices(ids, cum_weights=list(accumulate(rank**-skew for rank in range(1, KEYS + 1))), k=count)


def _scanned(count: int, length: int, rng: random.Random) -> Iterator[int]:
    usual, new = iter(_zipf(count, 0.9, rng)), KEYS
    while True:
        yield from islice(usual, 4 * length)
        yield from range(new, new + length)
        new += length


def streams(size: int, count: int) -> dict[str, list[str]]:
    """Return the streams for a cache of *size* entries, each of *count* requests."""
    rng = random.Random(_SEED)
    found = {f"zipf {skew}": _zipf(count, skew, rng) for skew in (0.7, 0.9, 1.1)}
    found["scans"] = list(islice(_scanned(count, size, rng), count))
    found["shifts"] = [key for _ in range(5) for key in _zipf(count // 5, 0.9, rng)]
    found["drift"] = [rank + at // 10 for at, rank in enumerate(_zipf(count, 0.9, rng, shuffled=False))]
    found["loop"] = [at % (size * 11 // 10) for at in range(count)]
    return {title: [f"shop:user:{key}" for key in keys] for title, keys in found.items()}


_LEGEND = f"""zipf: {KEYS:,} keys of that skew; scans: zipf 0.9, a fifth of the requests are runs of keys never asked for again,
each as long as the cache; shifts: zipf 0.9, all popularities drawn anew at each fifth; drift: zipf 0.9, at each tenth request they
move on by one key; loop: over and over 1.1 times what the cache holds. The first quarter of each stream is not counted."""


# What is printed ------------------------------------------------------------------------------------------------------------


def hit_rates(count: int) -> dict[str, dict[str, float]]:
    """Print and return the hits in percent of every peer, for every size and stream."""
    record: dict[str, dict[str, float]] = {name: {} for name in PEERS}
    print(f"near tier: hits in percent, of {count:,} requests\n{_LEGEND}")
    for size in SIZES:
        traffic = streams(size, count)
        print(f"  {f'{size:,} entries':18}" + "".join(f"{title:>10}" for title in traffic))
        for name, build in PEERS.items():
            row = f"  {name:18}"
            for title, names in traffic.items():
                request = build(size)
                outcomes = list(map(request, names))[count // 4 :]
                record[name][f"{title}, {size}"] = rate = 100 * sum(outcomes) / len(outcomes)
                row += f"{rate:>10.1f}"
            print(row, flush=True)
    print()
    return record


def _timed(request: Request, names: Sequence[str]) -> float:
    began = time.perf_counter()
    for name in names:
        request(name)
    return len(names) / (time.perf_counter() - began)


def _crowd(request: Request, names: Sequence[str]) -> float:
    barrier = threading.Barrier(_THREADS + 1)

    def run(share: Sequence[str]) -> None:
        barrier.wait()
        for name in share:
            request(name)

    threads = [threading.Thread(target=run, args=(names[at::_THREADS],)) for at in range(_THREADS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(names) / (time.perf_counter() - began)


def speeds(rounds: int, count: int = _SPEED_REQUESTS) -> dict[str, list[Series]]:
    """Print and return how many requests each peer answers per second, in rounds in which each has its turn."""
    rng = random.Random(_SEED)
    resident = [f"shop:user:{key}" for key in range(_SPEED_SIZE // 2)]
    hits = rng.choices(resident, k=count)
    mixed = [f"shop:user:{key}" for key in _zipf(count, 0.9, rng)]
    new = iter(range(KEYS, 10**12))
    cases: dict[str, tuple[Callable[[Request, Sequence[str]], float], Callable[[], Sequence[str]]]] = {
        "hits": (_timed, lambda: hits),
        f"hits, {_THREADS} threads": (_crowd, lambda: hits),
        "misses that evict": (_timed, lambda: [f"shop:user:{key}" for key in islice(new, count)]),
        "zipf 0.9": (_timed, lambda: mixed),
    }
    record: dict[str, list[Series]] = {}
    print(f"near tier: time of a request, {_SPEED_SIZE:,} entries; medians of {rounds} interleaved rounds of {count:,} requests,")
    print(f"ratios are medians of each round's own; above 1: {NEAR} is faster (a miss includes its marker and making what is held)")
    for title, (time_it, draw) in cases.items():
        built = {name: build(_SPEED_SIZE) for name, build in PEERS.items()}
        series = {name: Series(name) for name in PEERS}
        for number in range(rounds + 1):
            names = draw()
            order = list(PEERS)[number % len(PEERS) :] + list(PEERS)[: number % len(PEERS)]
            for name in order:
                request = built[name]
                if "hits" in title:
                    _timed(request, resident)
                    assert all(map(request, names)), f"{name} does not keep what it has room for"
                rate = time_it(request, names)
                if number:  # the first fills them, and is not counted
                    series[name].rates.append(rate)
        record[title] = list(series.values())
        print(f"  {title:20}{'ns each':>9}{NEAR + ' is':>18}")
        for name, one in series.items():
            seen = "" if name == NEAR else f"{ratio(series[NEAR], one):.2f}x"
            print(f"  {name:20}{statistics.median(1e9 / rate for rate in one.rates):>9,.0f}{seen:>18}".rstrip(), flush=True)
    print()
    return record


def near_policy(rounds: int, requests: int = REQUESTS) -> dict[str, object]:
    """Print both tables, and return what is in them."""
    rates = hit_rates(requests)
    times = speeds(rounds)
    return {"hits": rates, "per_second": {title: {one.name: one.rates for one in series} for title, series in times.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_policy", description="The near tier's policy beside others.")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which every peer has its turn (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="length of each stream (default: %(default)s)")
    options = parser.parse_args()
    packages = ", ".join(f"{package} {version(package)}" for package in ("cachebox", "moka-py", "theine"))
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {packages}\n")
    near_policy(options.rounds, options.requests)


if __name__ == "__main__":
    main()
