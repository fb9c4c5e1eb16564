#!/bin/sh
# Makes the root file system of one container in a mount namespace of its own, and becomes its process:
#   enter-container.sh ROOT SPEC USER DIRECTORY NAME=VALUE… COMMAND…
# SPEC has a line for each mount: `bind FROM TO`, `volume FROM TO` (writable), `tmpfs TO OPTIONS`,
# `copy FROM TO` (before all others, into the root itself). The rest of the root is read-only.
set -eu
root=$1 spec=$2 user=$3 directory=$4
shift 4

mount -t tmpfs -o size=64m,mode=755 tmpfs "$root"
for name in bin sbin lib lib64; do [ ! -L "/$name" ] || cp -a "/$name" "$root/$name"; done
mkdir -p "$root/usr" "$root/proc" "$root/dev/shm" "$root/etc/ssl" "$root/tmp" "$root/run" "$root/var"
ln -s ../run "$root/var/run"
cp /etc/ld.so.cache "$root/etc/"
[ ! -e /etc/ssl/openssl.cnf ] || cp /etc/ssl/openssl.cnf "$root/etc/ssl/"
printf 'root:x:0:0::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\ntwofold:x:10001:10001::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\npostgres:x:999:\ntwofold:x:10001:\n' >"$root/etc/group"
printf '%s\n' "${HOSTS:-127.0.0.1 localhost database twofold}" >"$root/etc/hosts"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
for device in null zero random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"

read_only() {
  mount --bind "$1" "$2"
  mount -o remount,bind,ro "$2"
}
# A place to mount on, of the kind of what goes there.
place() {
  if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "$(dirname "$2")" && : >"$2"; fi
}
read_only /usr "$root/usr"
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"

while read -r kind from to; do
  case $kind in
    copy) mkdir -p "$root$to" && cp -a "$from/." "$root$to/" ;;
    bind) place "$from" "$root$to" && read_only "$from" "$root$to" ;;
    volume) place "$from" "$root$to" && mount --bind "$from" "$root$to" ;;
    tmpfs) mkdir -p "$root$from" && mount -t tmpfs -o "$to" tmpfs "$root$from" ;;
  esac
done <"$spec"
mount -o remount,ro "$root"

ulimit -c 0
exec chroot "$root" setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --inh-caps=-all \
  --bounding-set=-all --no-new-privs env -i -C "$directory" "$@"
