#!/usr/bin/env bash
# Runs the tests of clients of one's own over every version of redis-py and valkey-py that is claimed: a venv for each in the
# directory named as second argument, made with the Python named as first. Needs the Python registry; takes some minutes.
set -euo pipefail
python=$1
target=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
failed=()
for wanted in 'redis[hiredis]>=5.0,<5.1' 'redis[hiredis]>=5.1,<6' 'redis[hiredis]>=6,<7' 'redis[hiredis]>=7,<8' 'redis[hiredis]>=8,<9' \
    'valkey>=6,<7' 'valkey[libvalkey]>=6,<7'; do
    venv=$target/$(printf '%s' "$wanted" | tr -c 'a-z0-9.' '-')
    if [ ! -x "$venv/bin/pytest" ]; then
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[embedded]" "$wanted" \
            pytest pytest-asyncio pytest-timeout
    fi
    "$venv/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -E '^(redis|valkey|hiredis|libvalkey) ' | tr '\n' ' '
    (cd "$root" && "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/server/test_own_client.py \
        tests/server/test_own_client_faults.py tests/topology/test_own_client_topologies.py) || failed+=("$wanted")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed with: ${failed[*]}" >&2
    exit 1
fi
