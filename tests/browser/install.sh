#!/bin/sh
# Makes sure that there is a Chromium for the browser tests. Without one they are skipped, and in CI
# (CI set) that is an error.
set -eu
chromium="${CHROMIUM:-/usr/bin/chromium}"
[ -x "$chromium" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  echo "==> installing chromium for the browser tests (apt-get, 100 MB, once)"
  if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium > /dev/null; then
    exit 0
  fi
fi
echo "no $chromium: the browser tests are skipped; install it (Debian: sudo apt-get install chromium) or set CHROMIUM" >&2
[ -z "${CI:-}" ]
