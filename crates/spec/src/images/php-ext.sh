#!/bin/sh
# Stands in for the image's helpers that build extensions: Debian has them as packages.
set -e
action=${0##*docker-php-ext-}
if [ "$action" = configure ]; then
    exit 0
fi
wanted=
while [ $# -gt 0 ]; do
    case $1 in
        -j) shift ;;
        -*) ;;
        *) wanted="$wanted $1" ;;
    esac
    shift
done
missing=
for name in $wanted; do
    shown=$name
    case $name in
        opcache) shown='Zend OPcache' ;;
    esac
    if php -m | grep -qix "$shown"; then
        continue
    fi
    case $name in
        mysqli | pdo_mysql) package=php-mysql ;;
        pgsql | pdo_pgsql) package=php-pgsql ;;
        pdo_sqlite | sqlite3) package=php-sqlite3 ;;
        dom | simplexml | xml | xmlreader | xmlwriter | xsl) package=php-xml ;;
        *) package=php-$name ;;
    esac
    missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "docker-php-ext-$action: this machine's PHP has it already:$wanted"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if apt-get install -y -q --no-install-recommends $missing \
    || { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; }; then
    exit 0
fi
echo "install on this machine what cannot be installed here: apt-get install$missing" >&2
exit 1
