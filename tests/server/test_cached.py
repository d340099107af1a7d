"""Functions whose results are cached, on a real server, in both colours with the same words."""

import asyncio
import copy
import dataclasses
import functools
import inspect
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec import UNSET

from forebay import Cache, EncodeError, InvalidDuration, InvalidKey, MissingTTL, RecursiveLoad, Unavailable

HERE = __name__


@dataclasses.dataclass
class User:
    id: int
    name: str = "Ada"


@dataclasses.dataclass(frozen=True)
class Tenant:
    id: int


class Session:
    """A database's."""


@pytest.fixture
def make(either):
    """Make a cache in each colour in turn."""

    def make(**options):
        cache = either.cache("calls", **{"ttl": "15m", **options})
        return getattr(cache, "wrapped", cache)

    return make


@pytest.fixture
def cache(make):
    return make()


def coloured(cache, function):
    """Return *function* in the colour of *cache*."""
    if isinstance(cache, Cache):
        return function

    @functools.wraps(function)
    async def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


def decorated(cache, function, **options):
    return cache.cached(**options)(coloured(cache, function))


async def of(result):
    return await result if inspect.isawaitable(result) else result


class Counting:
    """What a function is made of in most tests: it answers, and remembers what it was asked."""

    def __init__(self, answer=None):
        self.asked = []
        self.answer = answer or (lambda *args, **kwargs: {"args": list(args), "kwargs": kwargs})

    def __call__(self, *args, **kwargs):
        self.asked.append((args, kwargs))
        return self.answer(*args, **kwargs)


async def test_a_result_is_made_once_for_all_spellings(either, cache, prefix):
    made = Counting()

    def profile(user_id, full=False):
        return made(user_id, full)

    cached = decorated(cache, profile)
    results = [await of(call) for call in (cached(7), cached(user_id=7), cached(7, False), cached(full=False, user_id=7))]
    assert results == [{"args": [7, False], "kwargs": {}}] * 4
    assert made.asked == [((7, False), {})]
    key = cached.key_for(7)
    assert key == f"{HERE}.test_a_result_is_made_once_for_all_spellings.<locals>.profile(user_id=7,full=False)"
    assert await either.execute("EXISTS", f"{prefix}calls:{key}") == 1
    assert await of(cached("7")) == {"args": ["7", False], "kwargs": {}}
    assert len(made.asked) == 2
    assert await of(cached.uncached(7)) == {"args": [7, False], "kwargs": {}}
    assert len(made.asked) == 3


@pytest.mark.parametrize("bare", [True, False])
async def test_it_works_with_and_without_parentheses(cache, bare):
    def profile(user_id):
        """Tell who it is."""
        return user_id

    function = coloured(cache, profile)
    cached = cache.cached(function) if bare else cache.cached()(function)
    assert await of(cached(1)) == 1
    assert cached.__name__ == "profile"
    assert cached.__doc__ == "Tell who it is."
    assert cached.__wrapped__ is cached.uncached is function
    assert inspect.signature(cached) == inspect.signature(profile)
    assert repr(cached) == f"<cached {cached.key_for(1).partition('(')[0]}>"
    assert copy.deepcopy(cached.__reduce__()) == profile.__qualname__


async def test_frameworks_see_the_colour(cache):
    cached = decorated(cache, lambda x: x, key="{x}")
    assert inspect.iscoroutinefunction(cached.__call__) == (not isinstance(cache, Cache))


async def test_two_functions_never_meet(cache):
    def one(x):
        return "one"

    def other(x):
        return "other"

    assert await of(decorated(cache, one)(1)) == "one"
    assert await of(decorated(cache, other)(1)) == "other"


async def test_options_are_those_of_a_call(either, cache, prefix):
    cached = decorated(cache, lambda x: x, key="k:{x}", ttl="10s")
    await of(cached(1))
    assert 9000 < await either.execute("PTTL", f"{prefix}calls:k:1") <= 10000


async def test_what_is_wrong_is_said_when_it_is_decorated(make):
    cache = make()

    def plain(x):
        return x

    function = coloured(cache, plain)
    with pytest.raises(InvalidDuration):
        cache.cached(ttl="soon")(function)
    with pytest.raises(TypeError, match="no option 'tll'"):
        cache.cached(tll=5)(function)
    with pytest.raises(InvalidKey, match="names 'y'"):
        cache.cached(key="{y}")(function)
    with pytest.raises(InvalidKey, match=r"tags=\['team'\]"):
        cache.cached(tags="team")(function)
    with pytest.raises(InvalidKey, match="names 'team'"):
        cache.cached(tags=["team:{team}"])(function)
    for option in ("condition", "unless"):

        async def later(*args):
            return True

        for wrong in (later, 5):
            with pytest.raises(TypeError, match=f"{option}= of .*plain is a plain function"):
                cache.cached(**{option: wrong})(function)
    with pytest.raises(TypeError, match="options are named"):
        cache.cached("5m")
    with pytest.raises(TypeError, match="is a class"):
        cache.cached(User)
    with pytest.raises(MissingTTL):
        await of(decorated(make(ttl=UNSET), plain)(1))


async def test_the_other_colour_is_refused_with_the_remedy(cache):
    async def asynchronous(x):
        return x

    def plain(x):
        return x

    class Caller:
        async def __call__(self, x):
            return x

    def generator(x):
        yield x

    async def asynchronous_generator(x):
        yield x

    if isinstance(cache, Cache):
        for wrong in (asynchronous, functools.partial(asynchronous, 1), Caller()):
            with pytest.raises(
                TypeError, match="is asynchronous, and a Cache does not await: make it a plain def, or use a cache of AsyncForebay"
            ):
                cache.cached(key="{x}")(wrong)
    else:
        for wrong in (plain, functools.partial(plain, 1)):
            with pytest.raises(
                TypeError, match="is a plain function, and an AsyncCache is awaited: make it an async def, or use a cache of Forebay"
            ):
                cache.cached(key="{x}")(wrong)
        assert await cache.cached(key="{x}")(Caller())(3) == 3
    for wrong in (generator, asynchronous_generator):
        with pytest.raises(TypeError, match="is a generator"):
            cache.cached(wrong)


async def test_a_session_is_refused_until_it_is_left_out(cache):
    def profile(user_id, db):
        return user_id

    with pytest.raises(InvalidKey, match=r"argument 'db' of .*profile.*a Session does not say.*ignore=\('db',\).*key="):
        await of(decorated(cache, profile)(1, Session()))
    for options in ({"ignore": ("db",)}, {"key": "user:{user_id}"}, {"key": lambda user_id, db: user_id}):
        cached = decorated(cache, profile, **options)
        assert await of(cached(1, Session())) == 1
        assert await of(cached(1, Session())) == 1


# types


async def test_the_annotation_is_the_type(make):
    cache = make()

    def typed(x) -> User:
        return User(x)

    cached = decorated(cache, typed)
    for _ in range(2):
        assert await of(cached(1)) == User(1)

    def as_json(x) -> User:
        return {"id": x, "name": "Bob"}

    assert await of(decorated(cache, as_json)(1)) == User(1, "Bob")


async def test_without_an_annotation_it_is_the_caches_own(make):
    from typing import Any, TypeVar

    anything = TypeVar("anything")

    def untyped(x):
        return User(x)

    def unsaid(x) -> Any:
        return User(x)

    def generic(x: anything) -> anything:
        return User(x)

    for function in (untyped, unsaid, generic):
        cached = decorated(make(type=User), function)
        assert [await of(cached(1)) for _ in range(2)] == [User(1)] * 2
        with pytest.raises(EncodeError, match="type="):
            await of(decorated(make(), function)(2))


async def test_the_type_can_be_given(make):
    def untyped(x):
        return {"id": x}

    def wrong(x) -> Session:
        return {"id": x}

    assert await of(decorated(make(), untyped, type=User)(1)) == User(1)
    assert await of(decorated(make(type=User), wrong, type=None)(1)) == {"id": 1}
    with pytest.raises(EncodeError, match=r"(?s)wrong is cached as what it returns: .*Session.*correct the annotation, or give type="):
        decorated(make(), wrong)


def later() -> "Later":
    return Later(1)


async def test_the_annotation_may_name_what_is_defined_further_down(cache, monkeypatch):
    cls = globals()["Later"]
    monkeypatch.delitem(globals(), "Later")
    cached = decorated(cache, later)
    with pytest.raises(NameError, match=r"return annotation 'Later' of .*later cannot be read.*type="):
        await of(cached())
    monkeypatch.setitem(globals(), "Later", cls)
    for _ in range(2):
        assert await of(cached()) == Later(1)


@dataclasses.dataclass
class Later:
    id: int


async def test_only_the_return_annotation_is_read(cache):
    def function(x: "NotThere") -> "int":  # noqa: F821
        return x

    assert await of(decorated(cache, function)(1)) == 1


async def test_none_and_its_ttl(either, cache, prefix):
    made = Counting(lambda x: None)

    def nothing(x) -> int | None:
        return made(x)

    cached = decorated(cache, nothing, key="n:{x}", none_ttl="5s")
    assert [await of(cached(1)) for _ in range(2)] == [None, None]
    assert len(made.asked) == 1
    assert await either.execute("PTTL", f"{prefix}calls:n:1") <= 5000


# conditions


async def test_condition_decides_about_the_cache(cache):
    made = Counting(lambda x, fresh: x)

    def function(x, fresh=False):
        return made(x, fresh)

    cached = decorated(cache, function, condition=lambda x, fresh=False: not fresh)
    for _ in range(3):
        assert await of(cached(1, fresh=True)) == 1
    assert len(made.asked) == 3
    assert await of(cached.refresh(1, fresh=True)) == 1
    assert cache.stats().loads == 0
    for _ in range(2):
        assert await of(cached(1)) == 1
    assert len(made.asked) == 5


async def test_unless_keeps_a_result_out(cache):
    results = [[], [1], [2]]
    made = Counting(lambda x: results.pop(0))

    def search(x):
        return made(x)

    cached = decorated(cache, search, unless=lambda found: not found)
    assert await of(cached("a")) == []
    assert await of(cached("a")) == [1]
    assert await of(cached("a")) == [1]
    assert len(made.asked) == 2


async def test_unless_sees_what_could_not_be_stored(cache):
    failure = Session()
    cached = decorated(cache, lambda x: failure, key="{x}", unless=lambda result: isinstance(result, Session))
    assert await of(cached(1)) is failure


async def test_an_unstored_result_is_no_failure_of_the_loader(make, either, prefix):
    results = [[1], []]
    cached = decorated(make(stale_if_error="1h"), lambda x: results.pop(0), key="s:{x}", ttl=0.05, unless=lambda found: not found)
    assert await of(cached(1)) == [1]
    await either.execute("BLPOP", f"{prefix}nothing", "0.1")
    assert await of(cached(1)) == []


async def test_those_who_shared_a_load_share_an_unstored_result_and_not_the_object(cache):
    calls = 8
    gate = threading.Barrier(calls) if isinstance(cache, Cache) else None
    begun = []

    def slow(x):
        begun.append(x)
        threading.Event().wait(0.3)
        return []

    async def slow_async(x):
        begun.append(x)
        await asyncio.sleep(0.3)
        return []

    if gate is not None:
        cached = cache.cached(key="{x}", unless=lambda found: True)(slow)

        def ask():
            gate.wait()
            return cached(1)

        with ThreadPoolExecutor(calls) as pool:  # asyncio's own has four threads more than cores
            results = list(pool.map(lambda _: ask(), range(calls)))
    else:
        cached = cache.cached(key="{x}", unless=lambda found: True)(slow_async)
        results = await asyncio.gather(*(cached(1) for _ in range(calls)))
    assert results == [[]] * calls
    assert len({id(result) for result in results}) == calls
    assert len(begun) < calls
    assert await of(cache.exists("1")) is False


# invalidation


async def test_invalidate(cache):
    made = Counting(lambda x: x)

    def function(x):
        return made(x)

    cached = decorated(cache, function)
    assert await of(cached.invalidate(1)) is False
    for _ in range(2):
        await of(cached(1))
        await of(cached(2))
        assert await of(cached.invalidate(x=1)) is True
    assert [args for args, _ in made.asked] == [(1,), (2,), (1,)]


async def test_refresh_loads_anew_and_stores(cache):
    results = iter(range(1, 100))

    def function(x) -> int:
        return next(results)

    cached = decorated(cache, function)
    assert [await of(call()) for call in (lambda: cached(1), lambda: cached(1), lambda: cached.refresh(1), lambda: cached(1))] == [
        1,
        1,
        2,
        2,
    ]


async def test_a_refresh_never_stores_what_was_read_before_an_invalidation(cache):
    row = {"n": 1}

    def read(x):
        seen = dict(row)
        row["n"] += 1
        if isinstance(cache, Cache):
            cached.invalidate(x)
        return seen

    async def read_async(x):
        seen = read(x)
        await cached.invalidate(x)
        return seen

    cached = cache.cached(key="{x}")(read if isinstance(cache, Cache) else read_async)
    assert await of(cached.refresh(1)) == {"n": 1}
    assert await of(cache.get("1")) is None


async def test_a_refresh_that_fails_leaves_nothing(cache):
    results = [lambda: 1, lambda: 1 / 0, lambda: 3]
    cached = decorated(cache, lambda x: results.pop(0)(), key="{x}")
    assert await of(cached(1)) == 1
    with pytest.raises(ZeroDivisionError):
        await of(cached.refresh(1))
    assert await of(cached(1)) == 3


async def test_invalidations_fail_loudly(make_either):
    bay = make_either("redis://127.0.0.1:1/0", required=False)
    cache = bay.cache("calls", ttl=5)
    cached = decorated(getattr(cache, "wrapped", cache), lambda x: x, key="{x}")
    assert await of(cached(1)) == 1
    for call in (cached.invalidate, cached.refresh):
        with pytest.raises(Unavailable):
            await of(call(1))


# tags


async def test_tags_by_argument_and_by_result(cache):
    made = Counting(lambda team, number: {"team": team, "number": number})

    def member(team, number):
        return made(team, number)

    by_argument = decorated(cache, member, key="a:{team}:{number}", tags=["team:{team}", "members"])
    by_result = decorated(cache, member, key="r:{team}:{number}", tags=lambda result: [f"team:{result['team']}"])
    team = uuid.uuid4()
    for cached in (by_argument, by_result):
        made.asked.clear()
        for name in ("a b", 7) if cached is by_result else ("a b", 7, team):
            made.answer = lambda team, number: {"team": str(team), "number": number}
            made.asked.clear()
            assert (await of(cached(name, 1)))["number"] == 1
            await of(cached(name, 1))
            assert len(made.asked) == 1
            await of(cache.invalidate_tags(f"team:{name}"))
            await of(cached(name, 1))
            assert len(made.asked) == 2
    await of(cache.invalidate_tags("members"))
    made.asked.clear()
    await of(by_argument(7, 1))
    assert len(made.asked) == 1
    with pytest.raises(InvalidKey, match="a tag of .*names 'team'"):
        await of(by_argument(1.5, 1))


# methods


def repo(cache, **options):
    def get(self, number):
        """Get one."""
        return [type(self).__name__, getattr(self, "tenant", None), number]

    def named(cls, number):
        return [cls.__name__, number]

    def free(number):
        return number

    get, named, free = (coloured(cache, function) for function in (get, named, free))

    class Repo:
        def __init__(self, tenant):
            self.tenant = tenant

        @property
        def __cache_key__(self):
            return self.tenant

        method = cache.cached(**options)(get)
        inner_class = classmethod(cache.cached(**options)(named))
        outer_class = cache.cached(**options)(classmethod(named))
        inner_static = staticmethod(cache.cached(**options)(free))
        outer_static = cache.cached(**options)(staticmethod(free))

    return Repo


async def test_methods_tell_instances_apart(cache):
    Repo = repo(cache)  # noqa: N806

    class Sub(Repo):
        pass

    results = [await of(each.method(1)) for _ in range(2) for each in (Repo("a"), Repo("b"), Sub("a"), Repo(1), Repo("1"))]
    assert results[:5] == results[5:] == [["Repo", "a", 1], ["Repo", "b", 1], ["Sub", "a", 1], ["Repo", 1, 1], ["Repo", "1", 1]]
    assert cache.stats().loads == 5
    one = Repo("a")
    assert one.method.key_for(1) == Repo.method.key_for(one, 1)
    assert await of(one.method.refresh(1)) == ["Repo", "a", 1]
    assert await of(one.method.uncached(1)) == ["Repo", "a", 1]
    assert await of(one.method.invalidate(number=1)) is True
    assert await of(one.method.invalidate(1)) is False
    assert str(inspect.signature(one.method)) == "(number)"
    assert one.method.__doc__ == "Get one."


@pytest.mark.parametrize("name", ["inner_class", "outer_class"])
async def test_class_methods(cache, name):
    Repo = repo(cache)  # noqa: N806

    class Sub(Repo):
        pass

    for _ in range(2):
        assert await of(getattr(Repo, name)(1)) == ["Repo", 1]
        assert await of(getattr(Repo("x"), name)(1)) == ["Repo", 1]
        assert await of(getattr(Sub, name)(1)) == ["Sub", 1]
    assert cache.stats().loads == 2
    assert await of(getattr(Repo, name).invalidate(1)) is True
    assert await of(getattr(Sub("x"), name).invalidate(1)) is True


@pytest.mark.parametrize("name", ["inner_static", "outer_static"])
async def test_static_methods(cache, name):
    Repo = repo(cache)  # noqa: N806
    for _ in range(2):
        assert await of(getattr(Repo, name)(1)) == 1
        assert await of(getattr(Repo("x"), name)(number=1)) == 1
    assert cache.stats().loads == 1
    assert await of(getattr(Repo, name).invalidate(1)) is True


async def test_an_instance_that_says_nothing_is_refused_until_it_is_left_out(cache):
    def get(self, number):
        return number

    class Repo:
        refused = cache.cached(coloured(cache, get))
        ignored = cache.cached(ignore=("self",))(coloured(cache, get))
        keyed = cache.cached(key="repo:{number}")(coloured(cache, get))

    with pytest.raises(InvalidKey, match="must tell instances apart.*give .*Repo a __cache_key__"):
        await of(Repo().refused(1))
    assert await of(Repo().ignored(1)) == 1
    assert await of(Repo().keyed(1)) == 1
    assert Repo().ignored.key_for(1).endswith(".get(number=1)")
    assert Repo().keyed.key_for("a") == "repo:a"


async def test_a_frozen_dataclass_is_its_fields(cache):
    def get(self, number):
        return [self.id, number]

    Tenant.get = cache.cached(coloured(cache, get))
    try:
        assert await of(Tenant(1).get(5)) == [1, 5]
        assert await of(Tenant(2).get(5)) == [2, 5]
    finally:
        del Tenant.get


async def test_one_cached_function_around_another(cache, either):
    inner = decorated(cache, lambda x: x, key="inner:{x}")
    outer = cache.cached(key="outer:{x}")(inner)
    assert await of(outer(1)) == 1
    assert await of(cache.exists("inner:1"))
    assert await of(cache.exists("outer:1"))
    assert outer.uncached is inner


async def test_callers_who_miss_together_share_one_load(cache):
    made = Counting(lambda x: x)

    def slow(x):
        threading.Event().wait(0.2)
        return made(x)

    async def slow_async(x):
        await asyncio.sleep(0.2)
        return made(x)

    if isinstance(cache, Cache):
        cached = cache.cached(slow)
        results = await asyncio.gather(*(asyncio.to_thread(cached, 1) for _ in range(4)))
    else:
        cached = cache.cached(slow_async)
        results = await asyncio.gather(*(cached(1) for _ in range(4)))
    assert results == [1] * 4
    assert len(made.asked) == 1


async def test_a_function_that_asks_for_itself(cache):
    def loop(x):
        return cached(x)

    async def loop_async(x):
        return await cached(x)

    cached = cache.cached(loop if isinstance(cache, Cache) else loop_async)
    with pytest.raises(RecursiveLoad):
        await of(cached(1))
