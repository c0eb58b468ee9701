# Run the command $2 with the directory $1 as the root of this mount namespace.
root=$1
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/old"
cd "$root"
pivot_root . run/old
umount -l /run/old
cd /
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec sh -c "$2"
