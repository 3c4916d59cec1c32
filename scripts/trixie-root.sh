#!/bin/sh
# Makes a Debian 13 root with Patroni 4, etcd 3.5 and PostgreSQL 17, for the failover tests that run
# against them through chroot; .cache/trixie leads to it. Needs root and debootstrap; does nothing when
# the root is there. It lies outside of the checkout, because a minute per clone is a minute too much.
# The archive is the one the machine's own apt uses.
set -eu

link=$(cd "$(dirname "$0")/.." && pwd)/.cache/trixie
target=/var/cache/pgsteer/trixie
packages=patroni,postgresql-17,etcd-server,etcd-client,python3-etcd,python3-psycopg2,ca-certificates,iproute2

if [ ! -e "$target/.complete" ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "trixie-root.sh: needs root" >&2
    exit 1
  fi
  if ! command -v debootstrap >/dev/null; then
    echo "trixie-root.sh: needs debootstrap (apt-get install debootstrap)" >&2
    exit 1
  fi
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    awk '$2 ~ /^[a-z]+$/ { print $1; exit }')
  rm -rf "$target.new" "$target"
  mkdir -p "$target.new"
  # Without a mirror in the machine's sources debootstrap takes its own default.
  debootstrap --variant=minbase --include="$packages" trixie "$target.new" ${mirror:+"$mirror"}
  rm -rf "$target.new/var/cache/apt/archives"
  mkdir -p "$target.new/tmp" && chmod 1777 "$target.new/tmp"
  touch "$target.new/.complete"
  mv "$target.new" "$target"
fi
mkdir -p "$(dirname "$link")"
[ -L "$link" ] || rm -rf "$link"
ln -sfn "$target" "$link"
