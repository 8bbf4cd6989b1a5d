#!/bin/sh
# protoc, but for google.rpc: Maven has a package of that, and classes that are there twice are a riddle.
set -eu
case "$*" in
  *google/rpc/*) cat >/dev/null ;;
  *) exec protoc "$@" ;;
esac
