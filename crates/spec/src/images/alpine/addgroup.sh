#!/bin/sh
# Takes BusyBox's options, as images of Alpine's write them, and hands them to `groupadd`.
if [ -n "$DPKG_MAINTSCRIPT_PACKAGE" ]; then
    exec /usr/sbin/addgroup "$@"
fi
set -e
name=
to=
number=
system=
while [ $# -gt 0 ]; do
    case $1 in
        -g | --gid) number=$2 && shift ;;
        --gid=*) number=${1#*=} ;;
        -S | --system) system=-r ;;
        -Sg) system=-r && number=$2 && shift ;;
        -*) ;;
        *) if [ -z "$name" ]; then name=$1; else to=$1; fi ;;
    esac
    shift
done
if [ -n "$to" ]; then
    exec usermod -a -G "$to" "$name"
fi
exec groupadd $system ${number:+-g "$number"} "$name"
