#!/bin/sh
# Options alone are PHP's.
case ${1:-} in
    -*) set -- php "$@" ;;
esac
exec "$@"
