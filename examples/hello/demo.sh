#!/usr/bin/env bash
# The demo behind `make demo`: build the appliance from its lock, boot it in
# QEMU (UEFI, TPM), show the console, ask its service, power it off.
set -euo pipefail
cd "$(dirname "$0")/../.."
recipe=examples/hello/appliance.yaml

run() { echo "\$ $*"; "$@"; }

# Mirrors drop a package when a newer one replaces it, and another toolchain
# makes another ingot-init. The lock then has to move: visibly, never by itself.
if ! out=$(bin/ingot build -f "$recipe" -o out 2>&1); then
	echo "$out" >&2
	names=$(grep -o -- '--update [a-z/]*' <<<"$out" | awk '{print $2}' | sort -u)
	[ -n "$names" ] || exit 1
	for name in $names; do run bin/ingot lock -f "$recipe" --update "$name"; done
fi
run bin/ingot build -f "$recipe" -o out
run bin/ingot test out/hello-1.0.0 --console
