"""Each variable, each URL form, each bad value; and no password in any of it."""

import pytest

from forebay import Settings, SettingsError

DEFAULTS = Settings()


def test_defaults_of_an_empty_environment():
    settings = Settings.from_env({})
    assert settings == DEFAULTS
    assert settings.hosts == (("localhost", 6379),)
    assert (settings.db, settings.username, settings.password) == (0, None, None)
    assert (settings.pool_size, settings.min_idle) == (10, 5)
    assert (settings.dial_timeout, settings.read_timeout, settings.write_timeout) == (5.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("REDIS_HOST", "cache.internal", "hosts", (("cache.internal", 6379),)),
        ("REDIS_HOST", "::1", "hosts", (("::1", 6379),)),
        ("REDIS_HOST", "[::1]", "hosts", (("::1", 6379),)),
        ("REDIS_PORT", "6380", "hosts", (("localhost", 6380),)),
        ("REDIS_USERNAME", "app", "username", "app"),
        ("REDIS_PASSWORD", "s3cret", "password", "s3cret"),
        ("REDIS_PASSWORD", "", "password", None),
        ("REDIS_DB", "7", "db", 7),
        ("REDIS_POOL_SIZE", "32", "pool_size", 32),
        ("REDIS_MIN_IDLE", "0", "min_idle", 0),
        ("REDIS_DIAL_TIMEOUT", "2s", "dial_timeout", 2.0),
        ("REDIS_READ_TIMEOUT", "250ms", "read_timeout", 0.25),
        ("REDIS_WRITE_TIMEOUT", "1.5", "write_timeout", 1.5),
    ],
)
def test_each_variable(variable, value, field, expected):
    assert getattr(Settings.from_env({variable: value}), field) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_HOST", ""),
        ("REDIS_HOST", "a b"),
        ("REDIS_PORT", "redis"),
        ("REDIS_PORT", "0"),
        ("REDIS_PORT", "65536"),
        ("REDIS_PORT", ""),
        ("REDIS_PORT", "６３７９"),
        ("REDIS_DB", "-1"),
        ("REDIS_DB", "main"),
        ("REDIS_POOL_SIZE", "0"),
        ("REDIS_POOL_SIZE", "1e3"),
        ("REDIS_MIN_IDLE", "-1"),
        ("REDIS_DIAL_TIMEOUT", "soon"),
        ("REDIS_READ_TIMEOUT", "0"),
        ("REDIS_WRITE_TIMEOUT", "-3s"),
    ],
)
def test_a_bad_variable_is_named_with_its_value_and_never_replaced(variable, value):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: value})
    assert variable in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", {}),
        ("redis://cache:6380/2", {"hosts": (("cache", 6380),), "db": 2}),
        ("redis://[::1]:6380", {"hosts": (("::1", 6380),)}),
        ("redis://:pw@cache", {"hosts": (("cache", 6379),), "password": "pw"}),
        ("redis://app:p%40ss%2Fword@cache", {"hosts": (("cache", 6379),), "username": "app", "password": "p@ss/word"}),
        ("rediss://cache:6380", {"hosts": (("cache", 6380),), "tls": True}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("unix://app:pw@/run/redis.sock?db=3", {"path": "/run/redis.sock", "username": "app", "password": "pw", "db": 3}),
        (
            "redis+sentinel://h1:26380,h2/main/4",
            {"topology": "sentinel", "hosts": (("h1", 26380), ("h2", 26379)), "service": "main", "db": 4},
        ),
        ("redis+cluster://h1:7000,h2", {"topology": "cluster", "hosts": (("h1", 7000), ("h2", 6379))}),
        ("embedded://", {"topology": "embedded"}),
        ("redis://localhost?pool_size=2", {"pool_size": 2, "min_idle": 2}),
        ("redis://localhost?pool_size=64&min_idle=8&read_timeout=1s", {"pool_size": 64, "min_idle": 8, "read_timeout": 1.0}),
        ("redis://localhost/0?dial_timeout=500ms&write_timeout=2", {"dial_timeout": 0.5, "write_timeout": 2.0}),
    ],
)
def test_each_url_form(url, expected):
    settings = Settings.from_url(url, {})
    defaults = {"hosts": (("localhost", 6379),)}
    for field in Settings.__struct_fields__:
        wanted = {**defaults, **expected}.get(field, getattr(DEFAULTS, field))
        assert getattr(settings, field) == wanted, field
    assert Settings.from_env({"REDIS_URL": url}) == settings


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "scheme"),
        ("localhost:6379", "scheme"),
        ("http://localhost", "scheme"),
        ("redis:localhost", "scheme"),
        ("redis://", "host"),
        ("redis://:6379", "host"),
        ("redis://a b", "host"),
        ("redis://localhost:port", "port"),
        ("redis://localhost:0", "port"),
        ("redis://localhost:99999", "port"),
        ("redis://::1:6379", "host"),
        ("redis://localhost/main", "database"),
        ("redis://localhost/0/1", "path"),
        ("redis://h1,h2", "several hosts"),
        ("redis://localhost?timeout=3", "timeout"),
        ("redis://localhost?pool_size=none", "pool_size"),
        ("redis://localhost?pool_size", "query"),
        ("redis://localhost#1", "#"),
        ("unix://", "socket"),
        ("unix://host/run/redis.sock", "socket"),
        ("redis+sentinel://h1", "service"),
        ("redis+cluster://h1/0", "database"),
        ("embedded://host", "private server"),
    ],
)
def test_a_bad_url_is_explained(url, hint):
    for source, read in (("url", lambda: Settings.from_url(url, {})), ("REDIS_URL", lambda: Settings.from_env({"REDIS_URL": url}))):
        with pytest.raises(SettingsError) as caught:
            read()
        assert source in str(caught.value)
        assert hint in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:hunter2@localhost:port",
        "redis://:hunter2@localhost/main",
        "redis://:hun/ter2hunter2@localhost",
        "http://app:hunter2@localhost",
        "redis://:hunter2#@localhost",
        "redis://:a@hunter2@localhost/x",
        "redis://localhost?password=hunter2",
        "redis://localhost?pool_size=1&hunter2",
    ],
)
def test_no_password_in_any_error(url):
    with pytest.raises(SettingsError) as caught:
        Settings.from_url(url, {})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_password_in_repr_or_where():
    settings = Settings.from_url("redis://app:hunter2@cache:6380/2", {})
    assert "hunter2" not in repr(settings)
    assert "username='app', password='***', db=2" in repr(settings)
    assert settings.where == "redis://cache:6380/2"


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache:6380/2",
        "rediss://cache:6379/0",
        "unix:///run/r.sock",
        "embedded://",
        "redis://[::1]:6379/0",
        "redis+cluster://a:1,b:2",
    ],
)
def test_where_reads_back(url):
    assert Settings.from_url(url, {}).where == url


def test_where_comes_from_one_place_alone():
    environ = {"REDIS_HOST": "elsewhere", "REDIS_PASSWORD": "pw", "REDIS_DB": "3", "REDIS_POOL_SIZE": "20", "REDIS_READ_TIMEOUT": "1s"}
    settings = Settings.from_url("redis://cache", environ)
    assert (settings.hosts, settings.password, settings.db) == ((("cache", 6379),), None, 0)
    assert (settings.pool_size, settings.read_timeout) == (20, 1.0)
    assert Settings.from_url("redis://cache?pool_size=3", environ).pool_size == 3


def test_more_idle_sockets_than_sockets_is_refused():
    with pytest.raises(SettingsError, match=r"REDIS_MIN_IDLE=8.*REDIS_POOL_SIZE=4"):
        Settings.from_env({"REDIS_POOL_SIZE": "4", "REDIS_MIN_IDLE": "8"})
    assert Settings.from_env({"REDIS_POOL_SIZE": "4"}).min_idle == 4
