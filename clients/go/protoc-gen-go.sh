#!/bin/sh
# protoc-gen-go, but for google.rpc: Go has a package of that, and registering it twice is a panic.
set -eu
request=$(mktemp)
trap 'rm -f "$request"' EXIT
cat >"$request"
if grep -aq google/rpc/ "$request"; then
  printf '\020\001' # no files, and fields may be optional
else
  protoc-gen-go <"$request"
fi
