#!/bin/sh
# What udhcpc calls with a lease: takes the address, and notes the boot file.
[ "$1" = bound ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/$mask" dev "$interface"
echo "${bootfile:-$boot_file}" >/root/bootfile
