#!/bin/sh
# Stands in for Alpine's package manager on a machine of Debian's kind: what is there is left alone,
# the rest comes from Debian and goes into the image.
set -e

# What Debian calls a package of Alpine's; nothing where none is needed.
called() {
    case $1 in
        build-base | alpine-sdk) echo build-essential ;;
        musl-dev | libc-dev) echo libc6-dev ;;
        linux-headers) echo linux-libc-dev ;;
        musl | musl-utils | libc6-compat | gcompat | libc-utils | busybox-extras | shadow) ;;
        libgcc) echo libgcc-s1 ;;
        libstdc++) echo libstdc++6 ;;
        pkgconf | pkgconfig) echo pkg-config ;;
        openssl-dev) echo libssl-dev ;;
        zlib-dev) echo zlib1g-dev ;;
        jpeg-dev | libjpeg-turbo-dev) echo libjpeg-dev ;;
        freetype-dev) echo libfreetype-dev ;;
        libxml2-utils) echo libxml2-utils ;;
        libxslt-dev) echo libxslt1-dev ;;
        postgresql-dev | postgresql-libs | libpq) echo libpq-dev ;;
        postgresql*-client) echo postgresql-client ;;
        mariadb-dev | mariadb-connector-c-dev | mysql-dev) echo libmariadb-dev ;;
        mysql-client | mariadb-client) echo mariadb-client ;;
        sqlite) echo sqlite3 ;;
        sqlite-dev) echo libsqlite3-dev ;;
        sqlite-libs) echo libsqlite3-0 ;;
        redis) echo redis-server ;;
        icu-dev | icu-libs) echo libicu-dev ;;
        libzip-dev | libzip) echo libzip-dev ;;
        curl-dev) echo libcurl4-openssl-dev ;;
        readline-dev) echo libreadline-dev ;;
        ncurses-dev) echo libncurses-dev ;;
        ncurses) echo ncurses-bin ;;
        bzip2-dev) echo libbz2-dev ;;
        xz-dev) echo liblzma-dev ;;
        yaml-dev) echo libyaml-dev ;;
        gmp-dev) echo libgmp-dev ;;
        vips-dev) echo libvips-dev ;;
        cairo-dev) echo libcairo2-dev ;;
        pango-dev) echo libpango1.0-dev ;;
        giflib-dev) echo libgif-dev ;;
        librdkafka-dev) echo librdkafka-dev ;;
        protoc | protobuf) echo protobuf-compiler ;;
        py3-pip | py-pip) echo python3-pip ;;
        py3-*) echo "python3-${1#py3-}" ;;
        python2 | python) echo python3 ;;
        nodejs-current) echo nodejs ;;
        go) echo golang ;;
        openjdk*-jre*) echo default-jre-headless ;;
        openjdk*) echo default-jdk-headless ;;
        dcron | cronie) echo cron ;;
        docker-cli) echo docker.io ;;
        openssh) echo openssh-client ;;
        bind-tools) echo dnsutils ;;
        iputils) echo iputils-ping ;;
        netcat-openbsd) echo netcat-openbsd ;;
        imagemagick6 | imagemagick) echo imagemagick ;;
        ttf-dejavu | font-dejavu) echo fonts-dejavu-core ;;
        ttf-freefont) echo fonts-freefont-ttf ;;
        tzdata | ca-certificates) echo "$1" ;;
        chromium-*) echo chromium ;;
        su-exec) echo gosu ;;
        *) echo "$1" ;;
    esac
}

is_there() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

verb=
wanted=
while [ $# -gt 0 ]; do
    case $1 in
        -t | --virtual | -X | --repository | -p | --root | --repositories-file) shift ;;
        -*) ;;
        *) if [ -z "$verb" ]; then verb=$1; else wanted="$wanted $1"; fi ;;
    esac
    shift
done
case $verb in
    add) ;;
    del | update | upgrade | fix | cache) exit 0 ;;
    *)
        echo "apk $verb: this machine is not Alpine's, and has no such command" >&2
        exit 1
        ;;
esac

here=
missing=
for name in $wanted; do
    name=${name%%[=<>~@]*}
    case $name in
        # Taken away again, or a group that another step made.
        !* | .*) continue ;;
    esac
    lacks=
    if ! command -v "$name" > /dev/null; then
        for package in $(called "$name"); do
            is_there "$package" || lacks="$lacks $package"
        done
    fi
    if [ -z "$lacks" ]; then here="$here $name"; else missing="$missing$lacks"; fi
done
if [ -n "$here" ]; then
    echo "apk: this machine has$here"
fi
if [ -z "$missing" ]; then
    exit 0
fi
echo "apk: from Debian:$missing"
export DEBIAN_FRONTEND=noninteractive
install="apt-get install -y -q --no-install-recommends"
if $install $missing || { apt-get update -q && $install $missing; }; then
    exit 0
fi
echo "apk: install on this machine what cannot be installed here: apt-get install$missing" >&2
exit 1
