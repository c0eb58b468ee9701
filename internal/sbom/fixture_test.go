package sbom

import (
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"runtime/debug"
	"testing"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
)

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// file makes a Content whose bytes are its own path, so digests differ.
func file(partition, path, origin string) Content {
	h := sha1.Sum([]byte(path))
	return Content{Partition: partition, Path: path, SHA256: sum(path), SHA1: hex.EncodeToString(h[:]), Size: int64(len(path)), Origin: origin}
}

func program(path, version string, deps ...*debug.Module) *buildinfo.BuildInfo {
	return &buildinfo.BuildInfo{GoVersion: "go1.26.8 X:nodwarf5", Path: path, Main: debug.Module{Path: path, Version: version}, Deps: deps}
}

// fixture is a set with a file of every kind of origin, in the shape that a
// build of examples/gateway with an image as root payload has.
func fixture() Input {
	l := &lock.Lock{
		Format: 1, Name: "gateway", Version: "1.0.0", Arch: "amd64", Recipe: sum("recipe"), Epoch: 1795227046,
		Ingot: lock.Ingot{Format: 1, Init: sum("init")}, Go: "go1.26.8",
		Inputs: []lock.Input{
			{Name: "kernel", Kind: lock.KindDeb, SHA256: sum("kernel.deb"), Package: "linux-image-6.12.117+deb13-cloud-amd64", Version: "6.12.117-1", Arch: "amd64", Suite: "trixie", Pocket: "security", Via: "linux-image-cloud-amd64", Path: "pool/updates/main/l/linux-signed-amd64/linux-image-6.12.117+deb13-cloud-amd64_6.12.117-1_amd64.deb"},
			{Name: "stub", Kind: lock.KindDeb, SHA256: sum("stub.deb"), Package: "systemd-boot-efi", Version: "257.13-1~deb13u1+b2", Arch: "amd64", Suite: "trixie", Path: "pool/main/s/systemd/systemd-boot-efi_257.13-1~deb13u1_amd64.deb"},
			{Name: "loader", Kind: lock.KindDeb, SHA256: sum("stub.deb"), Package: "systemd-boot-efi", Version: "257.13-1~deb13u1+b2", Arch: "amd64", Suite: "trixie", Path: "pool/main/s/systemd/systemd-boot-efi_257.13-1~deb13u1_amd64.deb"},
			{Name: "go/portal", Kind: lock.KindGoDir, SHA256: sum("portal"), Path: "./services/portal"},
			{Name: "go/recorder", Kind: lock.KindGoDir, SHA256: sum("recorder"), Path: "./services/recorder"},
			{Name: "go/modules", Kind: lock.KindGoModule, SHA256: sum("modules"), Package: "github.com/mochi-mqtt/server/v2/cmd@v2.7.9"},
			{Name: "file/etc/site@v1", Kind: lock.KindFile, SHA256: sum("site"), Path: "site.conf"},
			{Name: "file/data/map.bin", Kind: lock.KindURL, SHA256: sum("map"), Path: "https://example.com/a b/map.bin?x=1"},
			{Name: "root", Kind: lock.KindOCI, SHA256: sum("image"), Path: "registry.example.com:5000/Team/app:1.2@sha256:" + sum("image"), Blobs: []lock.Blob{{SHA256: sum("layer1")}, {SHA256: sum("layer2")}}},
		},
	}
	contents := []Content{
		file(Initramfs, "init", OriginIngot),
		file(Initramfs, "etc/passwd", OriginGenerated),
		file(Initramfs, "etc/motd", OriginRecipe),
		file(Initramfs, "etc/site", "file/etc/site@v1"),
		file(Initramfs, "data/map.bin", "file/data/map.bin"),
		file(Initramfs, "bin/portal", "go/portal"),
		file(Initramfs, "bin/recorder", "go/recorder"),
		file(Initramfs, "bin/mqtt", "go/modules"),
		file(Initramfs, "lib/modules/6.12/virtio_net.ko", "kernel"),
		file(Initramfs, "lib/modules/6.12/é \"<&>.ko", "kernel"),
		file("uki", ".linux", "kernel"),
		file("uki", ".text", "stub"),
		file("esp", "EFI/systemd/systemd-bootx64.efi", "loader"),
		file("slot-a", "EFI/BOOT/BOOTX64.EFI", OriginGenerated),
		file("root-a", "app", "root@"+sum("layer1")),
		file("root-a", "etc/hosts", "root@"+sum("layer2")),
		file("root-a", "merged", "root"),
	}
	m := &release.Manifest{
		Format: 1, Name: l.Name, Version: l.Version, Arch: l.Arch, Epoch: l.Epoch, Build: sum("lock"),
		Tools: release.Tools{Ingot: "0.1.0", Init: l.Ingot.Init, Go: l.Go},
		Contents: []release.Entry{
			{Path: ".", Mode: "040755"}, {Path: "bin/sh", Mode: "120777", Target: "portal"}, {Path: "bin/again", Mode: "100755", Target: "bin/portal", SHA256: sum("")},
		},
	}
	for _, f := range contents {
		if f.Partition == Initramfs {
			m.Contents = append(m.Contents, release.Entry{Path: f.Path, Mode: "100644", Size: f.Size, SHA256: f.SHA256})
		}
	}
	toml := &debug.Module{Path: "github.com/BurntSushi/toml", Version: "v1.4.1-0.20240526193622-a339e1f7089c"}
	docker := &debug.Module{Path: "github.com/docker/docker", Version: "v28.0.0+incompatible"}
	forked := &debug.Module{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}}
	vendored := &debug.Module{Path: "example.com/near", Version: "v0.0.0", Replace: &debug.Module{Path: "../near"}}
	return Input{Manifest: m, Lock: l, Contents: contents, Programs: map[string]*buildinfo.BuildInfo{
		sum("init"):         program("github.com/ingot-os/ingot", "(devel)", toml),
		sum("bin/portal"):   program("example.com/services", "(devel)", toml, forked),
		sum("bin/recorder"): program("example.com/services", "(devel)", vendored),
		sum("bin/mqtt"):     program("github.com/mochi-mqtt/server/v2", "v2.7.9"),
		sum("app"):          program("example.com/app", "v1.2.3", docker),
	}}
}

func collect(t testing.TB) *Inventory {
	t.Helper()
	v, err := Collect(fixture())
	if err != nil {
		t.Fatal(err)
	}
	return v
}
