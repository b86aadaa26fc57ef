# enter.sh ROOT WORDS...: runs WORDS in a clone of the checkout inside ROOT.
# Started in a mount namespace of its own: every mount below ends with it.
set -eu
root=$1
shift
mount --bind "$root" "$root"
for folder in proc sys dev; do
    mount --rbind "/$folder" "$root/$folder"
done
exec chroot "$root" /usr/bin/env \
    HOME=/root LANG=C.UTF-8 PATH=/opt/cargo-bin:/usr/sbin:/usr/bin:/sbin:/bin \
    sh -eu -c '
        update-ca-certificates >/dev/null 2>&1
        [ -e /src ] || git -c advice.detachedHead=false clone --quiet /head.bundle /src
        cd /src
        exec "$@"
    ' sh "$@"
