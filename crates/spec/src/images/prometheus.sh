#!/bin/sh
# Where the image keeps its data when nothing else is said: in the folder that it starts in.
case " $* " in
    *" --storage.tsdb.path"* | *" --agent"* | *" --enable-feature=agent"*) ;;
    *) set -- "$@" --storage.tsdb.path=data/ ;;
esac
exec {program} "$@"
