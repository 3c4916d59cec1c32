#!/bin/sh
# Makes a Debian 13 root in .cache/trixie with Patroni 4, etcd 3.5 and PostgreSQL 17, for the
# failover tests that run against them through chroot. Needs root and debootstrap; does nothing
# when the root is there. The archive is the one the machine's own apt uses.
set -eu

target=$(cd "$(dirname "$0")/.." && pwd)/.cache/trixie
packages=patroni,postgresql-17,etcd-server,python3-etcd,ca-certificates

if [ -x "$target/usr/bin/patroni" ] && [ -e "$target/.complete" ]; then
  echo "$target is there"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "trixie-root.sh: needs root" >&2
  exit 1
fi
if ! command -v debootstrap >/dev/null; then
  echo "trixie-root.sh: needs debootstrap (apt-get install debootstrap)" >&2
  exit 1
fi

mirror=$(sed -n -e 's/^URIs: *\(\S*\).*/\1/p' -e 's/^deb \(\[[^]]*\] \)\{0,1\}\(\S*\) .*/\2/p' \
  /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
  grep -m1 '/debian/\{0,1\}$' || echo http://deb.debian.org/debian)

rm -rf "$target.new"
mkdir -p "$target.new"
debootstrap --variant=minbase --include="$packages" trixie "$target.new" "$mirror"
rm -rf "$target.new/var/cache/apt/archives" "$target"
mkdir -p "$target.new/tmp" && chmod 1777 "$target.new/tmp"
touch "$target.new/.complete"
mv "$target.new" "$target"
echo "$target is made"
