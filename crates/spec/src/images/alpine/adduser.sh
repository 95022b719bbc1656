#!/bin/sh
# Takes BusyBox's options, as images of Alpine's write them, and hands them to `useradd`.
if [ -n "$DPKG_MAINTSCRIPT_PACKAGE" ]; then
    exec /usr/sbin/adduser "$@"
fi
set -e
name=
to=
home=
shell=/bin/sh
comment=
group=
number=
system=
make=-m
while [ $# -gt 0 ]; do
    case $1 in
        -h | --home) home=$2 && shift ;;
        -s | --shell) shell=$2 && shift ;;
        -g | --gecos) comment=$2 && shift ;;
        -G | --ingroup) group=$2 && shift ;;
        -u | --uid) number=$2 && shift ;;
        -k | --skel) shift ;;
        --home=*) home=${1#*=} ;;
        --shell=*) shell=${1#*=} ;;
        --gecos=*) comment=${1#*=} ;;
        --ingroup=*) group=${1#*=} ;;
        --uid=*) number=${1#*=} ;;
        --system) system=-r ;;
        --no-create-home) make=-M ;;
        --*) ;;
        -*)
            case $1 in *S*) system=-r ;; esac
            case $1 in *H*) make=-M ;; esac
            # The last letter of several may take a value.
            case $1 in
                *G) group=$2 && shift ;;
                *u) number=$2 && shift ;;
                *h) home=$2 && shift ;;
                *s) shell=$2 && shift ;;
                *g) comment=$2 && shift ;;
            esac
            ;;
        *) if [ -z "$name" ]; then name=$1; else to=$1; fi ;;
    esac
    shift
done
if [ -n "$to" ]; then
    exec usermod -a -G "$to" "$name"
fi
set -- -s "$shell" $make $system
[ -z "$home" ] || set -- "$@" -d "$home"
[ -z "$comment" ] || set -- "$@" -c "$comment"
[ -z "$number" ] || set -- "$@" -u "$number"
if [ -n "$group" ]; then
    set -- "$@" -g "$group"
elif [ -n "$system" ]; then
    # BusyBox gives those of the system no group of their own.
    set -- "$@" -g nogroup
elif getent group "$name" > /dev/null; then
    set -- "$@" -g "$name"
else
    set -- "$@" -U
fi
exec useradd "$@" "$name"
