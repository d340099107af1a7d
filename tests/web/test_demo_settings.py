"""What the demo reads from the environment, and what it says about what it cannot read."""

import pytest

from forebay import SettingsError
from forebay.demo.settings import DemoSettings, database_url, where_is

SECRET = "sEcr3t"


def test_nothing_set_means_private_servers():
    settings = DemoSettings.from_env({})
    assert (settings.host, settings.port, settings.database, settings.redis) == ("127.0.0.1", 8000, None, None)


def test_redis_is_private_unless_an_address_is_given():
    assert DemoSettings.from_env({"REDIS_PORT": "1"}).redis is None
    assert DemoSettings.from_env({"REDIS_HOST": "h", "REDIS_PORT": "7000"}).redis.where == "redis://h:7000/0"
    assert DemoSettings.from_env({"REDIS_URL": "unix:///s.sock"}).redis.where == "unix:///s.sock"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgresql_by_any_of_its_names(scheme):
    url = database_url(f"{scheme}://me:{SECRET}@db.example:5433/shop?sslmode=require")
    assert (url.drivername, url.host, url.port, url.database, url.password) == ("postgresql+asyncpg", "db.example", 5433, "shop", SECRET)
    assert dict(url.query) == {"ssl": "require"}
    assert where_is(url) == "postgresql://db.example:5433/shop"


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
@pytest.mark.parametrize(("path", "file"), [("/a.db", "a.db"), ("//srv/a.db", "/srv/a.db")])
def test_sqlite_by_any_of_its_names(scheme, path, file):
    url = database_url(f"{scheme}://{path}")
    assert (url.drivername, url.database) == ("sqlite+aiosqlite", file)
    assert where_is(url) == f"sqlite://{path}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"me:{SECRET}@host/db",
        f"mysql://me:{SECRET}@host/db",
        f"postgresql+psycopg://me:{SECRET}@host/db",
        f"postgresql://me:{SECRET}@host:port/db",
        f"postgresql://me:{SECRET}",
        f"postgresql://host/db?password={SECRET}",
        "postgresql://host/db?ssl=require&ssl=disable",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        f"sqlite://{SECRET}/a.db",
    ],
)
def test_an_unusable_database_url_is_named_without_its_secret(text):
    with pytest.raises(SettingsError) as caught:
        DemoSettings.from_env({"DATABASE_URL": text})
    assert str(caught.value).startswith("DATABASE_URL=")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", ""),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80a"),
        ("PORT", "٣"),
        ("HOST", ""),
        ("HOST", "a b"),
        ("HOST", "http://x"),
        ("REDIS_URL", "http://x"),
        ("REDIS_HOST", ""),
    ],
)
def test_an_unreadable_variable_is_named(variable, value):
    with pytest.raises(SettingsError, match=variable):
        DemoSettings.from_env({variable: value})
