#!/bin/sh
# Makes the database the first time, then becomes the command, as the user `mysql`.
set -e

# What MARIADB_NAME or MYSQL_NAME says, or the file that the same with _FILE names, or a default.
given() {
    for name in "MARIADB_$1" "MYSQL_$1"; do
        eval "value=\${$name:-} file=\${${name}_FILE:-}"
        if [ -n "$value" ] && [ -n "$file" ]; then
            echo "$name and ${name}_FILE are both set: say one of them" >&2
            exit 1
        fi
        if [ -n "$file" ]; then
            value=$(cat "$file")
        fi
        if [ -n "$value" ]; then
            printf '%s' "$value"
            return
        fi
    done
    printf '%s' "${2:-}"
}

line() {
    printf '%s\n' "$1"
}

# A text as SQL writes it.
text() {
    printf "'%s'" "$(printf '%s' "$1" | sed -e 's/\\/\\\\/g' -e "s/'/''/g")"
}

case ${1:-} in
    -*) set -- mariadbd "$@" ;;
esac
case $1 in
    mariadbd | mysqld) ;;
    *) exec "$@" ;;
esac
data=/var/lib/mysql
for word in "$@"; do
    case $word in
        --datadir=*) data=${word#*=} ;;
        -\? | --help | -V | --version) exec "$@" ;;
    esac
done

if [ "$(id -u)" = 0 ] && ! setpriv --reuid=mysql true 2> /dev/null; then
    # Without root there is one user only, who stays.
    mkdir -p "$data" /run/mysqld
    set -- "$@" --user=root
elif [ "$(id -u)" = 0 ]; then
    mkdir -p "$data" /run/mysqld
    find "$data" /run/mysqld ! -user mysql -exec chown -h mysql:mysql {} +
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
fi

# What was begun and not finished is begun again: nobody has used it.
begun=$data/being-made
if [ -e "$begun" ]; then
    find "$data" -mindepth 1 -delete
fi

if [ ! -d "$data/mysql" ]; then
    password=$(given ROOT_PASSWORD)
    if [ -n "$(given RANDOM_ROOT_PASSWORD)" ]; then
        password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
        echo "the password of root: $password"
    fi
    if [ -z "$password$(given ALLOW_EMPTY_ROOT_PASSWORD)$(given ALLOW_EMPTY_PASSWORD)" ]; then
        echo "there is no database yet, and no password for it: set MARIADB_ROOT_PASSWORD, or" >&2
        echo "MARIADB_RANDOM_ROOT_PASSWORD=1, or MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1" >&2
        exit 1
    fi
    touch "$begun"
    # Where the server listens until it is made, so that nobody else finds it half made.
    place=$(mktemp -d)
    mariadb-install-db --datadir="$data" --auth-root-authentication-method=normal \
        --skip-test-db --skip-name-resolve --force > "$place/said" 2>&1 || {
        cat "$place/said" >&2
        exit 1
    }
    "$@" --skip-networking --socket="$place/socket" --pid-file="$place/pid" &
    server=$!
    sql() {
        MYSQL_PWD=$secret mariadb --no-defaults --user=root --socket="$place/socket" \
            --binary-mode "$@"
    }
    secret=
    tries=0
    until mariadb-admin --no-defaults --user=root --socket="$place/socket" ping > /dev/null 2>&1; do
        tries=$((tries + 1))
        if ! kill -0 "$server" 2> /dev/null || [ "$tries" -gt 1200 ]; then
            echo "the server did not start; what it said is above" >&2
            exit 1
        fi
        sleep 0.1
    done
    if [ -z "$(given INITDB_SKIP_TZINFO)" ]; then
        mariadb-tzinfo-to-sql --skip-write-binlog /usr/share/zoneinfo 2> /dev/null \
            | sql --database=mysql || true
    fi
    {
        line "SET @@SESSION.SQL_LOG_BIN = 0;"
        for host in 127.0.0.1 ::1 "$(hostname)"; do
            line "DROP USER IF EXISTS root@$(text "$host");"
        done
        if [ -n "$password" ]; then
            line "ALTER USER root@localhost IDENTIFIED BY $(text "$password");"
        fi
        from=$(given ROOT_HOST %)
        if [ "$from" != localhost ]; then
            line "CREATE USER root@$(text "$from") IDENTIFIED BY $(text "$password");"
            line "GRANT ALL ON *.* TO root@$(text "$from") WITH GRANT OPTION;"
        fi
    } | sql
    secret=$password
    database=$(given DATABASE)
    quoted=\`$(printf '%s' "$database" | sed 's/`/``/g')\`
    if [ -n "$database" ]; then
        line "CREATE DATABASE IF NOT EXISTS $quoted;" | sql
    fi
    user=$(given USER)
    if [ -n "$user" ]; then
        {
            line "CREATE USER $(text "$user")@'%' IDENTIFIED BY $(text "$(given PASSWORD)");"
            if [ -n "$database" ]; then
                # In a grant, an underscore stands for any letter.
                pattern=$(printf '%s' "$quoted" | sed 's/_/\\_/g')
                line "GRANT ALL ON $pattern.* TO $(text "$user")@'%';"
            fi
        } | sql
    fi
    for step in /docker-entrypoint-initdb.d/*; do
        [ ! -f "$step" ] || echo "running $step"
        case $step in
            *.sh) if [ -x "$step" ]; then "$step"; else . "$step"; fi ;;
            *.sql) sql --database="$database" < "$step" ;;
            *.sql.gz) gunzip -c "$step" | sql --database="$database" ;;
            *.sql.xz) xzcat "$step" | sql --database="$database" ;;
            *.sql.zst) zstd -dc "$step" | sql --database="$database" ;;
            */\*) ;;
            *) echo "passed over: $step" ;;
        esac
    done
    kill "$server"
    wait "$server"
    rm "$begun"
    rm -rf "$place"
    echo "the database is made"
fi
exec "$@"
