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
from forebay import AsyncForebay, AsyncCache, Cache, CacheMiss, Forebay, Unavailable


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
