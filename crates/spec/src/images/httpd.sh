#!/bin/sh
# The server with the image's configuration, of which what this machine's server has built in is
# left out: it refuses to load that once more.
set -e
mkdir -p /run/httpd
conf=/usr/local/apache2/conf/httpd.conf
built_in=$({program} -l | sed -n 's/^ *mod_\(.*\)\.c$/\1/p' | tr '\n' '|')
sed -E "s/^ *(LoadModule +(${built_in}none)_module )/# \1/" "$conf" > /run/httpd/httpd.conf
exec {program} -d /usr/local/apache2 -f /run/httpd/httpd.conf "$@"
