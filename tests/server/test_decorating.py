"""What a cache makes of functions, as a user writes it; both colours."""

import asyncio
import threading
import uuid

import pytest

from forebay import InvalidKey


async def test_a_function_is_called_once_for_its_arguments_and_again_when_told(bay):
    cache, calls = bay.cache("f", ttl=60), []

    @cache.cached(ttl="1m")
    async def double(number: int, times: int = 2) -> int:
        """Double it."""
        calls.append(number)
        return number * times

    assert (double.__name__, double.__doc__) == ("double", "Double it.")
    assert [await double(2), await double(number=2), await double(2, times=2), await double(2, 2)] == [4] * 4
    assert calls == [2]
    assert await double(2, 3) == 6
    assert await double.invalidate(2)
    assert not await double.invalidate(2)
    assert await double(2) == 4
    assert await double.refresh(2) == 4
    assert calls == [2, 2, 2, 2]
    assert double.key_for(2) == double.key_for(2, times=2) != double.key_for(3)


def test_threads_have_the_same(sync_bay):
    cache, calls = sync_bay.cache("f", ttl=60), []

    class Shop:
        __cache_key__ = "shop"

        @cache.cached
        def price(self, item: str) -> int:
            calls.append(item)
            return len(item)

        @cache.cached(unless=lambda found: found is None, condition=lambda item: item != "never")
        @staticmethod
        def find(item: str) -> str | None:
            calls.append(item)
            return None if item == "no" else item

    assert [Shop().price("pear"), Shop().price("pear"), Shop().price(item="pear")] == [4] * 3
    assert calls == ["pear"]
    assert [Shop.find("no"), Shop.find("no"), Shop.find("never"), Shop.find("never"), Shop.find("yes"), Shop.find("yes")] == [
        None,
        None,
        "never",
        "never",
        "yes",
        "yes",
    ]
    assert calls[1:] == ["no", "no", "never", "never", "yes"]
    with pytest.raises(TypeError, match="async"):

        @cache.cached
        async def wrong() -> int:
            return 1


async def test_what_is_no_part_of_a_key_is_refused_by_name(bay):
    cache = bay.cache("f", ttl=60)

    @cache.cached
    async def load(session: object, number: int) -> int:
        return number

    with pytest.raises(InvalidKey, match="session"):
        await load(object(), 1)

    @cache.cached(ignore=("session",))
    async def ignoring(session: object, number: int) -> int:
        return number

    assert await ignoring(object(), 1) == await ignoring(object(), 1) == 1


async def test_values_that_look_alike_do_not_share_a_key(bay):
    cache = bay.cache("f", ttl=60)

    @cache.cached
    async def kind(value: object) -> str:
        return type(value).__name__

    alike = [1, True, 1.0, "1", None, "None", b"1", (1,), ("1",), uuid.UUID(int=1), str(uuid.UUID(int=1))]
    assert [await kind(value) for value in alike] == [type(value).__name__ for value in alike]


async def test_keys_of_one_turn_are_loaded_together(bay):
    cache, asked = bay.cache("b", ttl=60), []

    async def load(keys):
        asked.append(list(keys))
        return {key: key * 10 for key in keys if key != 3}

    user = cache.batched(load)
    assert await asyncio.gather(*(user(key) for key in (1, 2, 3, 1))) == [10, 20, None, 10]
    assert [sorted(keys) for keys in asked] == [[1, 2, 3]]
    assert await user.many([1, 4]) == {1: 10, 4: 40}
    assert asked[1:] == [[4]]


def test_threads_read_together_and_alone(sync_bay):
    cache, asked = sync_bay.cache("b", ttl=60), []

    def load(keys):
        asked.extend(keys)
        return {key: key * 10 for key in keys}

    user, results = cache.batched(load), {}
    threads = [threading.Thread(target=lambda key=key: results.update({key: user(key)})) for key in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {key: key * 10 for key in range(20)}
    assert sorted(asked) == list(range(20))
    assert user(5) == 50
