#!/usr/bin/env bash
# `npm run image`: builds the Docker image for real and tests it (test/image). Uses the machine's own
# Docker if one answers; else, as root, installs Debian's docker.io, starts an engine of its own in a
# temporary directory and ends it afterwards. Where the base image cannot be pulled, one like it is
# made from Debian 13 (debootstrap) and the npm package `node`, under the pinned tag.
set -euo pipefail
cd "$(dirname "$0")/.."

BASE=$(sed -n 's/^ARG NODE_IMAGE=//p' Dockerfile)
IMAGE=pgsteer:test
BASE_TAR=/var/cache/pgsteer/$(printf %s "$BASE" | tr ':/' '__').tar

say() { printf '%s\n' "$*" >&2; }

if ! docker info >/dev/null 2>&1 && [ "$(id -u)" -ne 0 ]; then
  printf '\nnot run: the image (no Docker answers, and starting one needs root)\n1 not run\n0 passed, 0 failed\n'
  exit 0
fi

# On the right of PATH's own: Debian keeps these out of some users' PATH.
export PATH=$PATH:/usr/sbin:/sbin

quiet() { # runs a command and shows its output only if it fails
  local log
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then rm -f "$log"; else
    local code=$?
    tail -n 40 "$log" >&2
    rm -f "$log"
    return $code
  fi
}

need() { # need PROGRAM PACKAGE
  command -v "$1" >/dev/null && return
  say "Installing $2 ..."
  local policy=/usr/sbin/policy-rc.d ours=0
  [ -e $policy ] || { ours=1; printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; }
  quiet apt-get update -qq
  DEBIAN_FRONTEND=noninteractive quiet apt-get install -y -qq --no-install-recommends "$2" || { [ $ours = 0 ] || rm -f $policy; return 1; }
  [ $ours = 0 ] || rm -f $policy
}

engine_pid=
work=
finish() {
  if [ -n "$engine_pid" ]; then
    kill "$engine_pid" 2>/dev/null || true
    for _ in $(seq 150); do kill -0 "$engine_pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$engine_pid" 2>/dev/null || true
    grep -o " $work/[^ ]*" /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
  fi
  [ -z "$work" ] || rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

start_engine() {
  need dockerd docker.io
  work=$(mktemp -d /var/tmp/pgsteer-docker-XXXXXX)
  export DOCKER_HOST=unix://$work/docker.sock
  say 'Starting a Docker engine ...'
  # Containers of this test use the host's network: no bridge, and no firewall rules of anybody are touched.
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" -H "$DOCKER_HOST" \
    --bridge=none --iptables=false --ip6tables=false >"$work/log" 2>&1 </dev/null &
  engine_pid=$!
  for _ in $(seq 300); do
    docker info >/dev/null 2>&1 && return
    kill -0 $engine_pid 2>/dev/null || break
    sleep 0.1
  done
  say 'The Docker engine did not start:'
  tail -n 20 "$work/log" >&2
  return 1
}

make_base() {
  docker image inspect "$BASE" >/dev/null 2>&1 && return
  if [ ! -f "$BASE_TAR" ]; then
    timeout 120 docker pull -q "$BASE" 2>/dev/null && return
    need debootstrap debootstrap
    say "Making $BASE from Debian 13 and the npm package node ..."
    local root npm
    root=$(mktemp -d /var/tmp/pgsteer-base-XXXXXX)
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | awk '$2 ~ /^[a-z]+$/ { print $1; exit }')
    quiet debootstrap --variant=minbase trixie "$root" "$mirror"
    npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
    mkdir -p "$root/usr/local/lib/node_modules" "$root/usr/local/bin"
    cp -L node_modules/.bin/node "$root/usr/local/bin/node"
    cp -r "$npm" "$root/usr/local/lib/node_modules/npm"
    ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
    # Whom this machine trusts, the build trusts.
    mkdir -p "$root/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    mkdir -p "$(dirname "$BASE_TAR")"
    tar -C "$root" -c . -f "$BASE_TAR.new" && mv "$BASE_TAR.new" "$BASE_TAR"
    rm -rf "$root"
  fi
  quiet docker import -c 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' -c 'ENV PATH=/usr/local/bin:/usr/bin:/bin' "$BASE_TAR" "$BASE"
}

node scripts/setup.mjs
docker info >/dev/null 2>&1 || start_engine
make_base
say "Building $IMAGE ..."
quiet docker build --network host -t "$IMAGE" .
PGSTEER_TEST_IMAGE=$IMAGE node scripts/test.mjs image
