#!/bin/sh
# Apache with PHP, as the image has it: Debian's layout below /etc/apache2.
set -e
export APACHE_CONFDIR=${APACHE_CONFDIR:-/etc/apache2}
export APACHE_RUN_DIR=${APACHE_RUN_DIR:-/run/apache2}
export APACHE_PID_FILE=${APACHE_PID_FILE:-/run/apache2/apache2.pid}
export APACHE_LOCK_DIR=${APACHE_LOCK_DIR:-/run/lock/apache2}
export APACHE_LOG_DIR=${APACHE_LOG_DIR:-/var/log/apache2}
export APACHE_RUN_USER=${APACHE_RUN_USER:-www-data}
export APACHE_RUN_GROUP=${APACHE_RUN_GROUP:-www-data}
mkdir -p "$APACHE_RUN_DIR" "$APACHE_LOCK_DIR" "$APACHE_LOG_DIR"
rm -f "$APACHE_PID_FILE"
exec apache2 -DFOREGROUND "$@"
