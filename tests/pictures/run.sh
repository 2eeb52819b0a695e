#!/bin/sh
# strata's pages in a headless Chromium: pages.sh makes them where KVM works, check.py looks
# at them here. Prints TAP.
#
#   tests/pictures/run.sh [FOLDER]     FOLDER: keep the pages there
#
# Needs build/strata, what pages.sh needs, python3 and chromium-headless-shell or chromium.
cd "$(dirname "$0")/../.." || exit 2

command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null ||
    { echo "Bail out! there is no chromium-headless-shell; scripts/deps test installs it"; exit 2; }
pages=${1-}
if [ -z "$pages" ]; then
    pages=$(mktemp -d) || exit 2
    trap 'rm -rf "$pages"' EXIT
    trap 'exit 2' INT TERM
fi
mkdir -p "$pages" &&
    scripts/emuhost any --timeout 1500 --out "$pages" -- sh tests/pictures/pages.sh "$pages" || exit
/usr/bin/python3 -B tests/pictures/check.py "$pages"
