#!/bin/sh
# Resolves requirements.lock for every supported Python and platform. No index address is written into it.
set -eu
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .uv/bin/uv)
"$uv" pip compile pyproject.toml --group dev --universal --python-version 3.11 --no-header --no-emit-index-url --quiet --output-file requirements.lock
