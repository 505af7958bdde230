#!/bin/sh
# A compiler launcher: runs nvcc and keeps what ptxas -v reports beside the object, replaced with it, so that the
# report of a partly rebuilt library has every kernel once and none that is gone.
# usage: nvcc_logged.sh nvcc arguments... -o OBJECT
set -u
object= previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
"$@" >"$object.ptxas" 2>&1
status=$?
# Warnings and errors go on to the terminal.
grep -v -e '^ptxas info' -e 'bytes stack frame' "$object.ptxas" >&2
exit $status
