#!/bin/bash
# Makes gym-code/base:<python X.Y> from Debian packages, for machines that reach no image registry.
#
#   sudo make docker-base            (or: sudo containers/debian-base.sh)
#
# FORCE=1 makes it again; RELEASE and MIRROR name another Debian; BASE_PYTHON is the tag that is looked for first.
set -euo pipefail

RELEASE=${RELEASE:-bookworm}
MIRROR=${MIRROR:-}
FORCE=${FORCE:-}
PATH=$PATH:/usr/sbin:/sbin
PACKAGES=python3,python3-venv,python3-pip,git,ca-certificates
declare -A OF=([bookworm]=3.11 [trixie]=3.13)
PYTHON=${BASE_PYTHON:-${OF[$RELEASE]:-}}

say() { echo "docker-base: $*" >&2; }
fail() { say "$*"; exit 1; }

command -v docker >/dev/null || fail "docker is not installed. Run: apt-get install docker.io"
docker version >/dev/null 2>&1 || fail "no Docker daemon answers this user. Start it: systemctl start docker"
if [ -z "$FORCE" ] && [ -n "$PYTHON" ] && docker image inspect "gym-code/base:$PYTHON" >/dev/null 2>&1; then
  say "gym-code/base:$PYTHON is there (FORCE=1 makes it again)"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || fail "debootstrap needs root. Run: sudo make docker-base"
  exec sudo -n env RELEASE="$RELEASE" MIRROR="$MIRROR" FORCE="$FORCE" BASE_PYTHON="$PYTHON" \
    ${DOCKER_HOST:+DOCKER_HOST="$DOCKER_HOST"} "$(readlink -f "$0")"
fi
command -v debootstrap >/dev/null || fail "debootstrap is not installed. Run: apt-get install debootstrap"

work=$(mktemp -d "${TMPDIR:-/tmp}/gym-code-base.XXXXXX")
tree=$work/tree
# debootstrap mounts here and unmounts at its end; broken off, it leaves that to us.
clean_up() {
  umount "$tree/sys" "$tree/proc" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
say "unpacking Debian $RELEASE with $PACKAGES${MIRROR:+ from $MIRROR} (about a minute)"
if ! debootstrap --variant=minbase --include="$PACKAGES" "$RELEASE" "$tree" ${MIRROR:+"$MIRROR"} >"$work/log" 2>&1; then
  tail -n 20 "$work/log" >&2
  fail "debootstrap could not make the tree"
fi
mountpoint -q "$tree/proc" && umount "$tree/proc"

# What depends on when and where this ran, and what no box reads.
rm -rf "$tree"/var/cache/apt/*.bin "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* \
  "$tree"/var/cache/ldconfig "$tree"/var/cache/debconf/*-old "$tree"/var/lib/dpkg/*-old "$tree"/debootstrap \
  "$tree"/var/log/* "$tree"/tmp/* "$tree"/usr/share/man/* "$tree"/usr/share/info/* "$tree"/usr/share/locale/*
find "$tree/usr/share/doc" -type f ! -name copyright -delete
find "$tree/usr/share/doc" -depth -type d -empty -delete
find "$tree/dev" -mindepth 1 -delete
: >"$tree/etc/machine-id"
: >"$tree/etc/resolv.conf"
echo localhost >"$tree/etc/hostname"

version=$(chroot "$tree" /usr/bin/python3 -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ -z "$PYTHON" ] || [ "$PYTHON" = "$version" ] || fail "Debian $RELEASE has Python $version, not $PYTHON"
# Not older than the newest package: what was made just now gets the release's own time.
stamp=$(stat -c %Y "$tree/etc/debian_version")
say "importing it as gym-code/base:$version"
tar --create --directory "$tree" --sort=name --numeric-owner --mtime="@$stamp" --clamp-mtime \
    --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --format=pax . \
  | docker import --message "Debian $RELEASE, $PACKAGES" \
      --change "LABEL gym-code.kind=base" --change "ENV LANG=C.UTF-8" \
      --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
      --change 'CMD ["bash"]' - "gym-code/base:$version" >/dev/null
say "ready: $(docker image inspect --format '{{.Size}}' "gym-code/base:$version" | numfmt --to=iec) in gym-code/base:$version"
