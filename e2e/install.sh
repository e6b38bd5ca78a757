#!/bin/sh
# Installs, from Debian's own packages, what `make e2e` needs beside Go: the container runtime and its helpers
# (containerd, runc, the CNI plugins), what builds images without a Docker engine (buildah, debootstrap), and a static
# busybox for the tests' containers. No service of them is needed; containerd's own is stopped again where systemd
# runs, because the tests start theirs inside namespaces.
set -eu
[ "$(id -u)" = 0 ] || { echo "error: run as root: sudo sh e2e/install.sh" >&2; exit 2; }
command -v apt-get >/dev/null || { echo "error: no apt-get here; install by other means: $(sed -n 's/^packages="\(.*\)"/\1/p' "$0")" >&2; exit 2; }
packages="containerd runc containernetworking-plugins busybox-static buildah debootstrap iproute2 util-linux"
echo "==> installing $packages"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
if [ -d /run/systemd/system ]; then
  systemctl disable --now containerd.service
fi
