"""A process that only reads, once for each line of its input: what it sees of one key never goes back. At the end it says how often."""

from __future__ import annotations

import sys

from forebay import Forebay


def main() -> None:
    reads = 0
    with Forebay(sys.argv[1], prefix=sys.argv[2]) as bay:
        caches = [bay.cache("c0", ttl=60), bay.cache("c1", ttl=60, versioned=True), bay.cache("c2", ttl=60, stale_if_error=60)]
        seen: dict[tuple[int, int], int] = {}
        for _ in sys.stdin:
            for number, cache in enumerate(caches):
                for key, value in cache.get_many(range(8)).items():
                    reads += 1
                    before = seen.get((number, int(key)), 0)
                    if value < before:
                        sys.exit(f"key {key} of cache {number} went back from {before} to {value}")
                    seen[number, int(key)] = value
    sys.stdout.write(str(reads))


if __name__ == "__main__":
    main()
