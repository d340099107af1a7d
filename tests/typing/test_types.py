"""What a user's type checker sees: inference through the facades, and errors where they belong."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
from dataclasses import dataclass
from typing import assert_type
import forebay
from forebay import (
    AsyncForebay, AsyncCache, AsyncLimiter, Cache, CacheMiss, Decision, Forebay, Rate, Slot, Standing, Unavailable, Verdict
)


@dataclass
class User:
    id: int


async def load() -> User:
    return User(1)


def load_now() -> User:
    return User(1)


async def asynchronous() -> None:
    async with AsyncForebay("embedded://") as bay:
        users = bay.cache("user", type=User, ttl="15m")
        assert_type(users, AsyncCache[User])
        assert_type(await users.get(1), User | None)
        assert_type(await users.get(1, "none"), User | str)
        assert_type(await users.fetch(1), User)
        assert_type(await users.get_many([1, "a"]), dict[forebay.Key, User])
        assert_type(await users.get_or_set(1, load), User)
        assert_type(await users.get_or_set(1, load_now), User)
        assert_type(await users.delete(1, 2), int)
        assert_type(await users.ttl(1), float | None)
        assert_type(await bay.ping(), float)
        await users.set(1, "no user")  # E: arg-type
        await users.get_or_set(1, lambda: 5)  # E
        await users.get(1.5)  # E
        users.get(1)  # E: unused-coroutine
        bay.cache("user", ttl=None, on_outage="perhaps")  # E
        bay.cache("plain", type=list[int])
        limiter = bay.limiter("api", "100/minute", on_outage="closed", rate_for=lambda key: Rate(5, per=1))
        assert_type(limiter, AsyncLimiter)
        assert_type(await limiter.hit("a", cost=2), Verdict)
        assert_type(await bay.hit_all([(limiter, "a"), (limiter, 42, 2)]), Decision)
        assert_type(await limited_function(1), str)
        async with limiter.slot("a", timeout="5s") as slot:
            assert_type(slot, Slot)
        async with limiter.limited("a") as verdict:
            assert_type(verdict.standings, tuple[Standing, ...])
        assert_type(bay.stats().limits["api"].refused, int)
        bay.limiter("api", "100/minute", on_outage="perhaps")  # E
        bay.limiter("api", 100)  # E: arg-type
        await limiter.hit(1.5)  # E: arg-type
        limiter.hit("a")  # E: unused-coroutine
        await bay.hit_all([("api", "a")])  # E


@AsyncForebay("embedded://").limiter("jobs", "1/second").limited(lambda number: str(number))
async def limited_function(number: int) -> str:
    return str(number)


def threads() -> None:
    with Forebay("embedded://") as bay:
        users = bay.cache("user", type=User, ttl=None)
        assert_type(users, Cache[User])
        assert_type(users.get(1), User | None)
        assert_type(users.get(1, 0), User | int)
        assert_type(users.fetch(1), User)
        assert_type(users.get_or_set(1, load_now), User)
        users.get_or_set(1, load)  # E
        users.set(1, User(1), ttl=object())  # E


def errors(error: CacheMiss | Unavailable) -> str:
    return str(error)


users = AsyncForebay("embedded://").cache("user", type=User, ttl="15m")
people = Forebay("embedded://").cache("user", type=User, ttl="15m")


@users.cached
async def bare(user_id: int, *, full: bool = False) -> User:
    return User(user_id)


@users.cached(ttl="5m", key="user:{user_id}", unless=lambda found: found is None)
async def given(user_id: int, *, full: bool = False) -> list[User]:
    return [User(user_id)]


@people.cached(ttl="5m", ignore=("full",), tags=["team:{user_id}"])
def plain(user_id: int, *, full: bool = False) -> User | None:
    return None


class Users:
    __cache_key__ = "users"

    @users.cached
    async def get(self, user_id: int) -> User:
        return User(user_id)

    @people.cached(ttl=5)
    def find(self, user_id: int) -> User:
        return User(user_id)

    @people.cached
    @classmethod
    def first(cls, team: str) -> User:
        return User(1)

    @people.cached(ttl=5)
    @staticmethod
    def last(team: str) -> User:
        return User(1)


async def functions(repository: Users) -> None:
    assert_type(await bare(1), User)
    assert_type(await given(user_id=1, full=True), list[User])
    assert_type(await given.refresh(1), list[User])
    assert_type(await given.invalidate(1), bool)
    assert_type(given.key_for(1), str)
    assert_type(await given.uncached(1), list[User])
    assert_type(plain(1), User | None)
    assert_type(plain.refresh(1, full=True), User | None)
    assert_type(plain.invalidate(1), bool)
    assert_type(plain.uncached(1), User | None)
    assert_type(await repository.get(1), User)
    assert_type(await repository.get.refresh(1), User)
    assert_type(await Users.get(repository, 1), User)
    assert_type(repository.find(1), User)
    assert_type(repository.find.invalidate(1), bool)
    assert_type(Users.first("a"), User)
    assert_type(Users.last("a"), User)
    await bare("1")  # E: arg-type
    await given(1, fully=True)  # E: call-arg
    await given.invalidate()  # E: call-arg
    plain()  # E: call-arg
    bare(1)  # E: unused-coroutine
    await repository.get("1")  # E: arg-type
    repository.find.refresh("1")  # E: arg-type
    users.cached(ttl=object())  # E: call-overload
    users.cached(keys="{x}")  # E: call-overload
    users.cached(load_now)  # E


def many(keys: list[int]) -> dict[int, User]:
    return {key: User(key) for key in keys}


async def many_later(keys: list[str]) -> dict[str, User]:
    return {key: User(1) for key in keys}


async def batches() -> None:
    at_once = people.batched(many, max_batch=10, ttl="1m")
    assert_type(at_once(1), User)
    assert_type(at_once.many([1, 2]), dict[int, User])
    at_once("1")  # E: arg-type
    later = users.batched(many_later)
    assert_type(await later("1"), User)
    assert_type(await later.many(["1"]), dict[str, User])
    assert_type(await users.batched(many)(1), User)
    await later(1)  # E: arg-type
    later("1")  # E: unused-coroutine
    people.batched(many_later)  # E: arg-type
    users.batched(many, max_batch="10")  # E: arg-type


forebay.Forbay  # E: attr-defined
"""


def test_a_type_checker_agrees(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--enable-error-code", "unused-awaitable", "--config-file", "", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "MYPYPATH": str(ROOT / "src"), "MYPY_CACHE_DIR": str(tmp_path / "cache")},
    )
    found = {int(line): code for line, code in re.findall(r"program\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout)}
    expected = {number: line for number, line in enumerate(program.read_text().splitlines(), 1) if "# E" in line}
    assert set(found) == set(expected), done.stdout + done.stderr
    for number, line in expected.items():
        code = line.partition("# E: ")[2]
        assert code in ("", found[number]), done.stdout
