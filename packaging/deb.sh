#!/bin/sh
# Makes ingot_VERSION_ARCH.deb of bin/ingot: deb.sh ARCH OUTDIR
#
# dpkg-deb is what Debian itself uses; with SOURCE_DATE_EPOCH, modes set here and owners that
# are root it gives the same bytes on every host (nfpm as a library would bring some hundred
# modules for the same archive).
set -eu
umask 022
arch=$1 out=$2
top=$(cd "$(dirname "$0")/.." && pwd)
here=$top/packaging
command -v dpkg-deb >/dev/null || { echo "ingot: dpkg-deb is missing: make deb needs Debian, or package dpkg" >&2; exit 1; }
version=$(sed -n 's/^const ingotVersion = "\(.*\)"$/\1/p' "$top/cmd/ingot/build.go")
: "${SOURCE_DATE_EPOCH:=$(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 1795392000)}"
export SOURCE_DATE_EPOCH LC_ALL=C
date=$(date -u -R -d "@$SOURCE_DATE_EPOCH")

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
doc=$root/usr/share/doc/ingot
chmod 755 "$root"
mkdir -p "$root/DEBIAN" "$root/usr/bin" "$root/usr/lib/systemd/system" "$root/usr/lib/sysusers.d" "$root/etc/ingot" "$doc/examples" "$root/usr/share/man/man1"
install -m 755 "${INGOT:-$top/bin/ingot}" "$root/usr/bin/ingot"
install -m 644 "$here/ingot.service" "$root/usr/lib/systemd/system/ingot.service"
install -m 644 "$here/ingot.sysusers" "$root/usr/lib/sysusers.d/ingot.conf"
install -m 644 "$here/serve.yaml" "$doc/examples/serve.yaml"
for page in "$top"/docs/serve*.md "$top"/docs/netboot*.md "$top"/docs/attest*.md "$top"/docs/verdicts.md "$top"/docs/machine-api.md; do
	install -m 644 "$page" "$doc/"
done
install -m 644 "$here/debian/copyright" "$doc/copyright"
printf 'ingot (%s) unstable; urgency=medium\n\n  * CHANGELOG.md of the sources has what changed.\n\n -- ingot maintainers <ingot-os@users.noreply.github.com>  %s\n' "$version" "$date" | gzip -9n >"$doc/changelog.gz"
gzip -9n <"$here/debian/ingot.1" >"$root/usr/share/man/man1/ingot.1.gz"
chmod 644 "$doc/changelog.gz" "$root/usr/share/man/man1/ingot.1.gz"
for script in postinst prerm postrm; do
	install -m 755 "$here/debian/$script" "$root/DEBIAN/$script"
done
size=$(du -k -s --apparent-size "$root/usr" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" "$here/debian/control" >"$root/DEBIAN/control"
(cd "$root" && find usr -type f | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/md5sums"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$out"
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/ingot_${version}_$arch.deb" >/dev/null
echo "$out/ingot_${version}_$arch.deb"
