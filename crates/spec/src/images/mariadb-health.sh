#!/bin/sh
# Says whether the database takes connections over the network, which it does once it is made.
for word in "$@"; do
    case $word in
        --connect | --innodb_initialized | --su-mysql | --defaults-* | --su=* | --su | --user*) ;;
        --datadir* | --no-defaults) ;;
        *)
            echo "$word is not looked at here" >&2
            exit 1
            ;;
    esac
done
exec mariadb-admin --no-defaults --protocol=tcp --host=127.0.0.1 --connect-timeout=5 ping
