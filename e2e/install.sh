#!/bin/sh
# Installs, from Debian's own packages, what `make e2e` needs beside Go: the helpers of the container runtime (runc, the
# CNI plugins), what builds images without a Docker engine (buildah, debootstrap), a static busybox for the tests'
# containers, and bindfs, which makes a slow file server of a directory. The runtime itself is built with the kubelet.
set -eu
[ "$(id -u)" = 0 ] || { echo "error: run as root: sudo sh e2e/install.sh" >&2; exit 2; }
command -v apt-get >/dev/null || { echo "error: no apt-get here; install by other means: $(sed -n 's/^packages="\(.*\)"/\1/p' "$0")" >&2; exit 2; }
packages="runc containernetworking-plugins busybox-static buildah debootstrap bindfs e2fsprogs iproute2 util-linux"
echo "==> installing $packages"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
