"""`make test-system` runs the server and fault tests on Debian's redis-server; this says that it truly was that server."""

import pytest

pytestmark = pytest.mark.system


def test_the_server_under_test_is_redis_seven(sync_bay):
    info = dict(line.split(":", 1) for line in sync_bay.execute("INFO", "server").decode().splitlines() if ":" in line)
    assert "valkey_version" not in info
    assert info["redis_version"].startswith("7.")
