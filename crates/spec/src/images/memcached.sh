#!/bin/sh
# Options alone are the server's.
case $1 in
    -*) set -- memcached "$@" ;;
esac
exec "$@"
