package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/source/debian"
)

// mkosiSuite is the Debian release that mkosi comes from and that it builds.
const mkosiSuite = "trixie"

// mkosiPackages are what mkosi needs to build a UKI on a GPT disk.
const mkosiPackages = "mkosi systemd-ukify systemd-boot-efi systemd-repart dosfstools mtools e2fsprogs zstd kmod udev cpio python3-pefile debian-archive-keyring ca-certificates"

// enterScript runs a command with a directory as the root of a mount namespace
// of its own: mkosi pivots, which a plain chroot does not allow.
//
//go:embed mkosi-enter.sh
var enterScript string

// mkosi is that builder in a Debian tree of its own.
type mkosi struct {
	root    string // the tree
	version string
}

// benchMkosi builds a minimal systemd system with the same kernel as a UKI on a
// disk: the closest that mkosi has to examples/hello.
func benchMkosi(ctx context.Context, l *lab, r *report) error {
	m, err := newMkosi(ctx, l)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.addPeer(peer{builder: "mkosi", what: "one file changed", note: err.Error()})
		return nil
	}
	first, err := repeat(1, func(int) (cost, error) { return m.run(ctx, "cd /work && exec mkosi -ff build") })
	if err != nil {
		return err
	}
	r.addPeer(peer{builder: m.version, what: "build with nothing cached but downloads", series: first, ours: r.measured("everything but downloads and the Go compiler")})
	again, err := repeat(3, func(i int) (cost, error) {
		if err := m.write("work/mkosi.extra/etc/motd", fmt.Sprintf("change %d\n", i)); err != nil {
			return cost{}, err
		}
		return m.run(ctx, "cd /work && exec mkosi -f build")
	})
	if err != nil {
		return err
	}
	r.addPeer(peer{builder: m.version, what: "one file changed, Incremental=yes", series: again, ours: r.measured("one file changed: `ingot lock` and `ingot build`")})
	info, err := os.Stat(filepath.Join(m.root, "work/mkosi.output/hello.efi"))
	if err != nil {
		return err
	}
	r.addPeer(peer{builder: m.version, what: "UKI", unit: bytesMB, series: one(float64(info.Size())), ours: r.measured("UKI of hello, as it is"),
		note: "the same kernel package; systemd and udev instead of ingot-init and a service"})
	return nil
}

// measured finds what this run measured of ingot; nil when it did not.
func (r *report) measured(what string) *series {
	for i := range r.measures {
		if r.measures[i].what == what {
			return &r.measures[i].series
		}
	}
	return nil
}

// newMkosi makes the tree, once, and builds once, which downloads packages.
func newMkosi(ctx context.Context, l *lab) (*mkosi, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a Debian tree for it needs root")
	}
	m := &mkosi{root: filepath.Join(l.peerDir, "mkosi")}
	mirrors := debian.HostMirrors(os.DirFS("/")).Main
	if len(mirrors) == 0 {
		return nil, errors.New("it installs from the Debian mirror of the host's apt, which names none")
	}
	mirror := mirrors[0]
	if _, err := os.Stat(filepath.Join(m.root, "work/ready")); err != nil {
		if err := m.install(ctx, mirror); err != nil {
			return nil, err
		}
	}
	if err := m.configure(mirror); err != nil {
		return nil, err
	}
	c, err := m.run(ctx, "mkosi --version")
	if err != nil {
		return nil, err
	}
	m.version = strings.TrimSpace(c.output)
	if _, err := m.run(ctx, "cd /work && exec mkosi -f build"); err != nil {
		return nil, err
	}
	return m, m.write("work/ready", "")
}

// install fills the tree with a minimal Debian and mkosi.
func (m *mkosi) install(ctx context.Context, mirror string) error {
	if err := os.RemoveAll(m.root); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.root), 0o755); err != nil {
		return err
	}
	if _, err := (job{args: []string{"debootstrap", "--variant=minbase", mkosiSuite, m.root, mirror}}).do(ctx); err != nil {
		return err
	}
	_, err := m.run(ctx, "export DEBIAN_FRONTEND=noninteractive; apt-get update -q && apt-get install -qy --no-install-recommends "+mkosiPackages)
	return err
}

// configure writes the description of the image. mkosi's own list of sources
// names archives that a mirror need not carry, so it gets a list as well.
func (m *mkosi) configure(mirror string) error {
	for name, content := range map[string]string{
		"work/mkosi.conf":           fmt.Sprintf(mkosiConf, mkosiSuite, mirror),
		"work/mkosi.extra/etc/motd": "hello\n",
		"work/mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources": fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n"+
			"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", mirror, mkosiSuite),
	} {
		if err := m.write(name, content); err != nil {
			return err
		}
	}
	for _, dir := range []string{"work/mkosi.output", "work/mkosi.cache", "packages", "workspace"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

const mkosiConf = `[Distribution]
Distribution=debian
Release=%s
Mirror=%s
Repositories=main

[Output]
Format=disk
ImageId=hello
OutputDirectory=mkosi.output

[Content]
Bootable=yes
Bootloader=uki
Packages=linux-image-cloud-amd64
         systemd
         systemd-boot-efi
         udev
KernelCommandLine=console=ttyS0
Hostname=hello

[Build]
Incremental=yes
CacheDirectory=mkosi.cache
PackageCacheDirectory=/packages
WorkspaceDirectory=/workspace
`

func (m *mkosi) write(name, content string) error {
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// run runs a shell command in the tree.
func (m *mkosi) run(ctx context.Context, command string) (cost, error) {
	return job{dir: "/", args: []string{"unshare", "--mount", "--propagation", "private", "sh", "-ec", enterScript, "enter", m.root, command}}.do(ctx)
}
