#!/bin/sh
# Makes the database the first time, then becomes the command, as the user `postgres`.
set -e

# Sets a variable from itself, from the file that NAME_FILE names, or else to a default.
given() {
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$value" ] && [ -n "$file" ]; then
        echo "$1 and $1_FILE are both set: say one of them" >&2
        exit 1
    fi
    if [ -n "$file" ]; then
        value=$(cat "$file")
    fi
    if [ -z "$value" ]; then
        value=${2:-}
    fi
    eval "export $1=\$value"
    unset "$1_FILE"
}

case ${1:-} in
    -*) set -- postgres "$@" ;;
esac
if [ "$1" != postgres ]; then
    exec "$@"
fi
for word in "$@"; do
    case $word in
        -\? | --help | -V | --version | --describe-config) exec "$@" ;;
    esac
done

if [ "$(id -u)" = 0 ] && ! setpriv --reuid=postgres true 2> /dev/null; then
    echo "PostgreSQL refuses to run as root, and there is no other user here: run ms as root" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    chmod 3775 /run/postgresql
    find "$PGDATA" /run/postgresql ! -user postgres -exec chown -h postgres:postgres {} +
    HOME=/var/lib/postgresql exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

# What was begun and not finished is begun again: nobody has used it.
begun=$PGDATA/being-made
if [ -e "$begun" ]; then
    find "$PGDATA" -mindepth 1 -delete
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    given POSTGRES_PASSWORD
    given POSTGRES_USER postgres
    given POSTGRES_DB "$POSTGRES_USER"
    given POSTGRES_INITDB_ARGS
    entry=${POSTGRES_HOST_AUTH_METHOD:-}
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$entry" != trust ]; then
        echo "there is no database yet, and no password for it: set POSTGRES_PASSWORD, or" >&2
        echo "POSTGRES_HOST_AUTH_METHOD=trust to let in whoever reaches it" >&2
        exit 1
    fi
    mkdir -p "$PGDATA"
    # Where the server listens until it is made, so that nobody else finds it half made.
    PGHOST=$(mktemp -d)
    export PGHOST
    set -- --username="$POSTGRES_USER" --pgdata="$PGDATA" -- "$@"
    if [ -n "$POSTGRES_PASSWORD" ]; then
        printf '%s\n' "$POSTGRES_PASSWORD" > "$PGHOST/password"
        set -- --pwfile="$PGHOST/password" "$@"
    fi
    if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
        set -- --waldir="$POSTGRES_INITDB_WALDIR" "$@"
    fi
    options=
    while [ "$1" != -- ]; do
        options="$options '$(printf '%s' "$1" | sed "s/'/'\\\\''/g")'"
        shift
    done
    shift
    eval "initdb $options $POSTGRES_INITDB_ARGS"
    touch "$begun"
    rm -f "$PGHOST/password"
    echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
    if [ -z "$entry" ]; then
        entry=$(postgres -D "$PGDATA" -C password_encryption)
    fi
    printf '\nhost all all all %s\n' "$entry" >> "$PGDATA/pg_hba.conf"

    quiet="-c listen_addresses= -c unix_socket_directories=$PGHOST"
    PGUSER=$POSTGRES_USER PGPASSWORD=$POSTGRES_PASSWORD pg_ctl -D "$PGDATA" -o "$quiet" -w start
    sql() {
        PGPASSWORD=$POSTGRES_PASSWORD psql --set ON_ERROR_STOP=1 --no-password --no-psqlrc \
            --username "$POSTGRES_USER" "$@"
    }
    if [ "$POSTGRES_DB" != postgres ]; then
        echo 'CREATE DATABASE :"name";' | sql --dbname postgres --set name="$POSTGRES_DB"
    fi
    for step in /docker-entrypoint-initdb.d/*; do
        [ ! -f "$step" ] || echo "running $step"
        case $step in
            *.sh) if [ -x "$step" ]; then "$step"; else . "$step"; fi ;;
            *.sql) sql --dbname "$POSTGRES_DB" --file "$step" ;;
            *.sql.gz) gunzip -c "$step" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.xz) xzcat "$step" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.zst) zstd -dc "$step" | sql --dbname "$POSTGRES_DB" ;;
            */\*) ;;
            *) echo "passed over: $step" ;;
        esac
    done
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
    rm "$begun"
    rm -rf "$PGHOST"
    unset PGHOST
    echo "the database is made"
fi
exec "$@"
