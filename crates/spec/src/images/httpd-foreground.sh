#!/bin/sh
rm -f /run/httpd.pid /usr/local/apache2/logs/httpd.pid
exec /usr/local/apache2/bin/httpd -DFOREGROUND "$@"
