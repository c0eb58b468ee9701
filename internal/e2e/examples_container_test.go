package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
)

const container = "../../examples/container"

// registry is a docker-registry on the loopback interface that ends with the test.
func registry(t *testing.T) (address string) {
	t.Helper()
	oracle.Need(t, "docker-registry", "docker-registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	c := exec.Command("docker-registry", "serve", filepath.Join(container, "registry.yml"))
	c.Env = append(os.Environ(), "REGISTRY_HTTP_ADDR="+address)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("registry: %s", &said)
		}
	})
	eventually(t, "the registry answers", func() bool {
		resp, err := http.Get("http://" + address + "/v2/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return address
}

// push makes the image of the example and returns its reference by digest.
func push(t *testing.T, ref, text string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", "run", ".", "-text", text, ref)
	c.Dir = filepath.Join(container, "mkimage")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("mkimage: %v\n%s", err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// containerRecipe is the example with another registry and format, locked to
// the image that the tag means now. Then the tag moves on.
func containerRecipe(t *testing.T, format string) (dir, digest string) {
	t.Helper()
	address := registry(t)
	dir = t.TempDir()
	yaml, err := os.ReadFile(filepath.Join(container, "appliance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	recipe := filepath.Join(dir, "appliance.yaml")
	if err := os.WriteFile(recipe, yaml, 0o644); err != nil {
		t.Fatal(err)
	}
	edit(t, recipe, "127.0.0.1:5000="+address+";format: squashfs=format: "+format)
	_, digest, _ = strings.Cut(push(t, address+"/web:1.0", "hello from a container image"), "@sha256:")
	if r := ingot(t, "lock", "-f", dir); r.code != 0 {
		t.Fatalf("ingot lock: %s", r.stderr)
	}
	if moved := push(t, address+"/web:1.0", "hello from tomorrow"); strings.Contains(moved, digest) {
		t.Fatal("the tag did not move")
	}
	return dir, digest
}

// TestContainer is a container image as root payload: locked by tag to a
// digest, built as each kind of file system, booted.
func TestContainer(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "cryptsetup-bin", "veritysetup")
	t.Run("squashfs", func(t *testing.T) {
		set := buildContainer(t, "squashfs")
		g := powerOn(t, set.Dir, healthy, nil)
		checkContainer(g, set)
		g.off()
		t.Run("corrupt", func(t *testing.T) { checkCorrupt(t, set) })
	})
	t.Run("erofs", func(t *testing.T) {
		set := buildContainer(t, "erofs")
		g := powerOn(t, set.Dir, healthy, nil)
		checkContainer(g, set)
		g.off()
	})
}

func buildContainer(t *testing.T, format string) *release.Set {
	t.Helper()
	dir, digest := containerRecipe(t, format)
	l, err := lock.Read(filepath.Join(dir, "appliance.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if in := l.Find("root"); in == nil || in.Kind != lock.KindOCI || in.SHA256 != digest || !strings.HasSuffix(in.Path, "/web:1.0") || len(in.Blobs) != 4 {
		t.Errorf("locked %+v, want web:1.0 with digest %s", in, digest)
	}
	r := ingot(t, "build", "-f", dir, "-o", filepath.Join(dir, "out"))
	if r.code != 0 {
		t.Fatalf("ingot build: %s", r.stderr)
	}
	set, err := release.Open(strings.TrimSpace(r.out))
	if err != nil {
		t.Fatal(err)
	}
	if m := set.Manifest.Root; m == nil || m.Format != format {
		t.Fatalf("the manifest's root is %+v", m)
	}
	checkVerity(t, set, format)
	return set
}

// rootFile is the payload beside the image.
func rootFile(set *release.Set) string {
	return filepath.Join(set.Dir, set.Manifest.Stem()+".root")
}

// checkVerity lets cryptsetup and the file system's own tool judge the payload,
// by the hash that the boot file carries.
func checkVerity(t *testing.T, set *release.Set, format string) {
	t.Helper()
	root, hash := rootFile(set), rootHash(t, set)
	offset := fmt.Sprintf("--hash-offset=%d", set.Manifest.Root.HashStart)
	oracle.Run(t, "veritysetup", "verify", root, root, hash, offset)
	wrong := strings.Map(func(r rune) rune { return '0' + (r+1)%8 }, hash)
	if exec.Command("veritysetup", "verify", root, root, wrong, offset).Run() == nil {
		t.Error("veritysetup takes any hash")
	}
	if format == "erofs" {
		oracle.Need(t, "erofs-utils", "fsck.erofs")
		oracle.Run(t, "fsck.erofs", root)
		return
	}
	oracle.Need(t, "squashfs-tools", "unsquashfs")
	list := oracle.Run(t, "unsquashfs", "-llnumeric", root)
	for _, want := range []string{`-rw-r-----\s+1234/1234\s+29\s.*usr/share/web/greeting.txt`, `lrwxrwxrwx\s+0/0\s.*squashfs-root/bin -> usr/bin`, `drwxrwxrwt\s+0/0\s.*/tmp`} {
		if !regexp.MustCompile(want).MatchString(list) {
			t.Errorf("unsquashfs shows no %s in\n%s", want, list)
		}
	}
}

// rootHash is the one that the kernel gets.
func rootHash(t *testing.T, set *release.Set) string {
	t.Helper()
	m := regexp.MustCompile(`\bingot\.roothash=([0-9a-f]{64})\b`).FindStringSubmatch(set.Manifest.Cmdline)
	if m == nil {
		t.Fatalf("no root hash in %q", set.Manifest.Cmdline)
	}
	return m[1]
}

func checkContainer(g *guest, set *release.Set) {
	g.t.Helper()
	s := g.status()
	if r := s.Root; r == nil || r.State != "mounted" || r.RootHash != rootHash(g.t, set) || r.Format != set.Manifest.Root.Format || r.Device != "/dev/vda4" {
		g.t.Errorf("root: %+v", r)
	}
	if !s.Healthy || len(s.Problems) > 0 || s.Data.State != "none" {
		g.t.Errorf("healthy %v, problems %q, data %+v", s.Healthy, s.Problems, s.Data)
	}
	_, body := g.get(8080, "/")
	want := "hello from a container image\nIMAGE=yes RECIPE=yes\n" +
		`uid 1234, gid 1234, in /usr/share/web, started as ["/usr/bin/web" "-greeting" "current"]` + "\n"
	if body != want {
		g.t.Errorf("the service says\n%swant\n%s", body, want)
	}
	// The layers laid over each other: covered, removed and opaque entries,
	// links of both kinds, also to a lower layer, owner, mode and attribute.
	// In erofs hard links become copies.
	links := map[string]string{"squashfs": "2", "erofs": "1"}[set.Manifest.Root.Format]
	a, err := g.Smoke(g.t.Context(), qemu.SmokeRequest{Name: "files"})
	want = strings.ReplaceAll(`drwxr-xr-x 0:0 3 /usr/share/web
Lrwxrwxrwx 0:0 1 /usr/share/web/current -> greeting.txt
-rw-r----- 1234:1234 1 /usr/share/web/greeting.txt 29
drwxr-xr-x 0:0 2 /usr/share/web/news
-rw-r--r-- 0:0 1 /usr/share/web/news/new.txt 6
-rw-r--r-- 0:0 LINKS /usr/share/web/photo 4194304 "kept"
-rw-r--r-- 0:0 LINKS /usr/share/web/photo-again 4194304 "kept"
`, "LINKS", links)
	if err != nil || a.Exit != 0 || a.Output != want {
		g.t.Errorf("files: %v, exit %d\n%swant\n%s", err, a.Exit, a.Output, want)
	}
}

// checkCorrupt flips one bit in the middle of the photo, on the disk of the
// machine: whoever reads it gets an error, and the machine says why.
func checkCorrupt(t *testing.T, set *release.Set) {
	at := partitionOf(t, set, partition.RootA).Start + set.Manifest.Root.DataSize/2
	g := powerOn(t, set.Dir, `ingot: service web unhealthy`, func(m *qemu.Machine) {
		m.State = func(disk *os.File) error { return flip(disk, at) }
	})
	code, body := g.get(g.port, "/healthz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "service web is running, unhealthy: GET http://127.0.0.1:8080/health: got status 500") ||
		!strings.Contains(body, "root: a block of /dev/vda4 does not match the root hash") {
		t.Errorf("/healthz: %d\n%s", code, body)
	}
	if s := g.status(); s.Healthy || s.Root.State != "corrupt" || len(s.Problems) != 1 {
		t.Errorf("healthy %v, root %+v, problems %q", s.Healthy, s.Root, s.Problems)
	}
	if len(g.said("web", "read /usr/share/web/photo: input/output error")) == 0 {
		t.Error("the service did not meet the damaged block")
	}
	if want := regexp.MustCompile(`device-mapper: verity: .* data block \d+ is corrupted`); !want.MatchString(g.Console()) {
		t.Error("the kernel says nothing on the console")
	}
	g.off()
}

func flip(f *os.File, at int64) error {
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err := f.WriteAt(b[:], at)
	return err
}

func partitionOf(t *testing.T, set *release.Set, role string) release.Partition {
	t.Helper()
	for _, p := range set.Manifest.Disk.Partitions {
		if p.Role == role {
			return p
		}
	}
	t.Fatalf("the image has no partition %s", role)
	return release.Partition{}
}
