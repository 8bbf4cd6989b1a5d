#!/bin/sh
# protoc, but for google.rpc: Ruby has a gem of that.
set -eu
case "$*" in
  *google/rpc/*) cat >/dev/null ;;
  *) exec protoc "$@" ;;
esac
