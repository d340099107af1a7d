"""How long commands took, in buckets that double four times a step: a histogram for each command, of bounded size.

Threads time every command. An asyncio connection times the first command of a write, one at a time: that costs nothing
per command, and is every command when there are few.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["Latencies", "LatencyStats", "name_in"]

_STEPS: Final = 4  # buckets between one power of two and the next: a bound is at most 25 % above what it stands for
_BUCKETS: Final = 26 * _STEPS  # up to a minute, in microseconds
_MOST_COMMANDS: Final = 200


class LatencyStats(Struct, frozen=True):
    """Latencies of one command in seconds: the upper bounds of the buckets that hold the median, two percentiles and the largest."""

    count: int
    p50: float
    p99: float
    p999: float
    max: float


class Latencies:
    """The histograms of one bay, by command. Counters take no lock: see docs/decisions/0003."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}

    def record(self, name: str, seconds: float) -> None:
        """Count one command that took so long. What is no common command's name is counted as ``OTHER``."""
        counts = self._counts.get(name)
        if counts is None:
            if len(self._counts) >= _MOST_COMMANDS:
                name = "OTHER"
            counts = self._counts.setdefault(name, [0] * _BUCKETS)
        counts[_bucket(int(seconds * 1_000_000))] += 1

    def stats(self) -> dict[str, LatencyStats]:
        """Return a summary for each command that was timed, by name."""
        return {name: _summary(list(counts)) for name, counts in sorted(self._counts.items())}


def name_in(packed: bytes) -> str:
    """Return the name of a packed command: ``*2\\r\\n$3\\r\\nGET\\r\\n...``."""
    return packed[:40].split(b"\r\n", 3)[2].rstrip(b"\r").decode("ascii", "replace").upper()


def _bucket(microseconds: int) -> int:
    if microseconds < _STEPS:
        return max(microseconds, 0)
    power = microseconds.bit_length()
    within = (microseconds >> (power - 3)) - _STEPS  # the two bits after the leading one
    return min((power - 2) * _STEPS + within, _BUCKETS - 1)


def _upper_bound(bucket: int) -> float:
    if bucket < _STEPS:
        return (bucket + 1) / 1_000_000
    power, within = divmod(bucket, _STEPS)
    return ((_STEPS + within + 1) << (power - 1)) / 1_000_000


def _summary(counts: list[int]) -> LatencyStats:
    total = sum(counts)

    def at(share: float) -> float:
        seen = 0
        for bucket, count in enumerate(counts):
            seen += count
            if seen >= share * total:
                return _upper_bound(bucket)
        return 0.0

    return LatencyStats(total, at(0.5), at(0.99), at(0.999), at(1.0))
