package proc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// payload is a root with a static program in it: the test binary needs no
// libraries when it is built without cgo, and the host's when not, so the
// host's library directories are places too.
func payload(t *testing.T) (root string, libs []Place) {
	t.Helper()
	root = t.TempDir()
	for _, d := range []string{"bin", "etc", "opt/x", "proc"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(reachable(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"bin/child": b, "etc/hostname": []byte("payload"), "opt/x/f": []byte("deep")} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink("/run/nowhere/resolv.conf", filepath.Join(root, "etc/resolv.conf"))
	os.Symlink("bin", filepath.Join(root, "sbin"))
	for _, d := range []string{"/lib", "/lib64", "/usr/lib"} {
		if st, err := os.Stat(d); err == nil && st.IsDir() {
			libs = append(libs, Place{Path: d, Source: d})
		}
	}
	return root, libs
}

func TestViewShowsRootAndPlaces(t *testing.T) {
	requireRoot(t)
	root, places := payload(t)
	host := t.TempDir()
	resolv := filepath.Join(host, "resolv.conf")
	data, secrets := filepath.Join(host, "data"), filepath.Join(host, "secrets")
	os.WriteFile(resolv, []byte("nameserver 192.0.2.1\n"), 0o644)
	os.Mkdir(data, 0o755)
	os.Mkdir(secrets, 0o755)
	os.WriteFile(filepath.Join(secrets, "s"), []byte("hidden"), 0o444)
	ro := filepath.Join(host, "ro")
	if err := os.MkdirAll(filepath.Join(ro, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("below", filepath.Join(ro, "below"), "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(filepath.Join(ro, "below"), 0)
	places = append(places,
		Place{Path: "/proc", Source: "/proc"},
		Place{Path: "/tmp", Opts: "mode=1777,size=1m"},
		Place{Path: "/run", Opts: "mode=0755,size=1m"},
		Place{Path: "/run/deep/secrets", Source: secrets, Flags: unix.MS_RDONLY}, // inside of a fresh tmpfs, which stays writable
		Place{Path: "/etc/resolv.conf", Source: resolv, Flags: unix.MS_RDONLY},
		Place{Path: "/var/lib/app", Source: data},
		Place{Path: "/opt/y", Opts: "size=1m"},
		Place{Path: "/ro", Source: ro, Flags: unix.MS_RDONLY | unix.MS_NOSUID},
	)
	ns, err := View{Root: root, Work: t.TempDir(), Places: places}.Namespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	p, out := run(t, reaper(t), Command{Path: "/sbin/child", Space: ns, Env: []string{
		"FILES=/etc/hostname /etc/resolv.conf /opt/x/f /run/deep/secrets/s",
		"WRITE=/x /etc/x /etc/resolv.conf /opt/x2 /tmp/x /run/x /var/lib/app/x /opt/y/x /ro/x /ro/below/x /run/deep/secrets/x",
	}}, "ls")
	if !p.OK() {
		t.Fatalf("child %s: %s", p.Exit(), out)
	}
	for _, want := range []string{
		`/etc/hostname: "payload" <nil>`, `/etc/resolv.conf: "nameserver 192.0.2.1\n" <nil>`, `/opt/x/f: "deep" <nil>`, `/run/deep/secrets/s: "hidden" <nil>`, "write /run/deep/secrets/x: open /run/deep/secrets/x: read-only",
		"write /x: open /x: read-only", "write /etc/x: open /etc/x: read-only", "write /etc/resolv.conf: open /etc/resolv.conf: read-only",
		"write /opt/x2: open /opt/x2: read-only", "write /tmp/x: <nil>", "write /run/x: <nil>", "write /var/lib/app/x: <nil>", "write /opt/y/x: <nil>",
		"write /ro/x: open /ro/x: read-only", "write /ro/below/x: open /ro/below/x: read-only",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	if b, err := os.ReadFile(filepath.Join(data, "x")); err != nil || string(b) != "x" {
		t.Errorf("data written inside = %q, %v outside", b, err)
	}
	entries, _ := os.ReadDir(filepath.Join(root, "etc"))
	if len(entries) != 2 {
		t.Errorf("the root itself has changed: %v", entries)
	}
}

func TestNamespaceStaysInside(t *testing.T) {
	requireRoot(t)
	dir := t.TempDir()
	ns, err := NewNamespace(func() error {
		return unix.Mount("x", dir, "tmpfs", 0, "size=1m")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var inside, outside unix.Statfs_t
	if err := ns.Do(func() error { return unix.Statfs(dir, &inside) }); err != nil {
		t.Fatal(err)
	}
	if err := unix.Statfs(dir, &outside); err != nil {
		t.Fatal(err)
	}
	if inside.Type != unix.TMPFS_MAGIC || outside.Type == inside.Type && outside.Blocks == inside.Blocks {
		t.Errorf("mount is seen as %x inside, %x outside", inside.Type, outside.Type)
	}
	boom := errors.New("boom")
	if _, err := NewNamespace(func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("NewNamespace with a failing build = %v", err)
	}
}

func TestLook(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "prog"), nil, 0o755)
	os.WriteFile(filepath.Join(dir, "text"), nil, 0o644)
	path := "/nonexistent:" + dir
	if got, err := Look("prog", path); err != nil || got != filepath.Join(dir, "prog") {
		t.Errorf("Look(prog) = %q, %v", got, err)
	}
	for _, name := range []string{"text", "none"} {
		if _, err := Look(name, path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Look(%s) = %v, want not exist", name, err)
		}
	}
	if _, err := Look(dir, path); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Look of a directory = %v, want permission", err)
	}
}
