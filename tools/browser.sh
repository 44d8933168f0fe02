#!/bin/sh
# Makes sure that the tests have a browser: one that is there, else Debian's where it may be installed, else Playwright's own.
set -eu
cd "$(dirname "$0")/.."
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if .venv/bin/python -c 'import pathlib, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as p: sys.exit(not pathlib.Path(p.chromium.executable_path).is_file())' 2>/dev/null; then
    exit 0
fi
echo "Installing a browser for the tests ..." >&2
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then root=""; elif sudo -n true 2>/dev/null; then root="sudo"; else root="none"; fi
    if [ "$root" != none ] && $root apt-get update -qq >/dev/null 2>&1 \
        && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1; then
        exit 0
    fi
fi
if .venv/bin/python -m playwright install chromium >/dev/null 2>&1; then exit 0; fi
echo "tests: no browser, and none could be installed; install Chromium (on Debian: apt-get install chromium) and run again" >&2
exit 3
