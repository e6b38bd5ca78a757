#!/bin/sh
# Makes sure that there is a Prometheus with its promtool for the tests of deploy/monitoring. Debian's package is unpacked
# into the cache and not installed, so that no service starts and no root is needed. Without one these tests are skipped,
# and in CI (CI set) that is an error.
set -eu
cache="${XDG_CACHE_HOME:-$HOME/.cache}/model-cache-extender/prometheus"
if command -v prometheus > /dev/null && command -v promtool > /dev/null; then exit 0; fi
if [ -x "$cache/usr/bin/promtool" ] && [ -x "$cache/usr/bin/prometheus" ]; then exit 0; fi
if command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null; then
  echo "==> unpacking Debian's prometheus into $cache (apt-get download, 50 MB, once)"
  folder="$(mktemp -d)"
  trap 'rm -rf "$folder"' EXIT
  cd "$folder"
  apt-get download -qq prometheus 2> /dev/null || {
    [ "$(id -u)" != 0 ] || apt-get update -qq
    apt-get download -qq prometheus || true
  }
  if [ -n "$(ls)" ]; then
    mkdir -p "$cache"
    dpkg-deb -x prometheus_*.deb "$cache"
    exit 0
  fi
fi
echo "no prometheus: its tests are skipped; install it (Debian: sudo apt-get install prometheus)" >&2
[ -z "${CI:-}" ]
