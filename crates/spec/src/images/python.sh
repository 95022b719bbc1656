#!/bin/sh
# No symbolic link: a virtual environment looks for its library beside the name it was called by.
exec {program} "$@"
