#!/bin/sh
# Fills in templates, runs what stands in /docker-entrypoint.d, then becomes the command.
set -e
if [ "$1" = nginx ] || [ "$1" = nginx-debug ]; then
    from=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
    suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
    to=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
    if [ -d "$from" ]; then
        if ! command -v envsubst > /dev/null; then
            echo "templates need envsubst: install the package gettext-base on this machine" >&2
            exit 1
        fi
        names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p')
        find "$from" -type f -name "*$suffix" | while read -r template; do
            place=$to/${template#"$from"/}
            mkdir -p "$(dirname "$place")"
            envsubst "$names" < "$template" > "${place%"$suffix"}"
        done
    fi
    for step in /docker-entrypoint.d/*; do
        case $step in
            *.envsh) [ -x "$step" ] && . "$step" ;;
            *.sh) [ -x "$step" ] && "$step" ;;
        esac
    done
fi
exec "$@"
