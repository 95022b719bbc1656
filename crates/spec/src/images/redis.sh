#!/bin/sh
# Becomes the command, the server as the user `redis`.
set -e
case ${1:-} in
    -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
    # The image's server lets others in that it knows nothing about, unless something forbids it.
    said=" $* "
    case ${2:-} in
        *.conf) said="$said$(sed -n 's/^ *\(protected-mode\) .*/--\1 /p' "$2")" ;;
    esac
    case $said in
        *" --protected-mode "* | *--protected-mode" ") ;;
        *) set -- "$@" --protected-mode no ;;
    esac
    # Without root there is one user only, who stays.
    if [ "$(id -u)" = 0 ] && setpriv --reuid=redis true 2> /dev/null; then
        find . ! -user redis -exec chown -h redis:redis {} +
        exec setpriv --reuid=redis --regid=redis --init-groups "$@"
    fi
fi
exec "$@"
