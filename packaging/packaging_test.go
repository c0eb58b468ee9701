// Package packaging has what runs ingot serve for real: a systemd unit, a Debian
// package, a container. The tests have Debian's own tools look at them.
package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

// exposure is the most that systemd may say the unit is exposed, in tenths:
// docs/serve.md says the number. What is left is the network itself, its two
// capabilities, and reading /proc/sys.
const exposure = 16

// TestUnitIsValid has systemd read the unit. Its program is not installed here.
func TestUnitIsValid(t *testing.T) {
	oracle.Need(t, "systemd", "systemd-analyze")
	unit := strings.ReplaceAll(read(t, "ingot.service"), "/usr/bin/ingot", "/bin/true")
	path := filepath.Join(t.TempDir(), "ingot.service")
	write(t, path, unit)
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUnitIsConfined: no capability but two, and systemd's own judgement.
func TestUnitIsConfined(t *testing.T) {
	for _, key := range []string{"CapabilityBoundingSet", "AmbientCapabilities"} {
		if got := setting(t, key); got != "CAP_NET_BIND_SERVICE CAP_NET_RAW" {
			t.Errorf("%s=%s", key, got)
		}
	}
	for key, want := range map[string]string{"NoNewPrivileges": "yes", "ProtectSystem": "strict", "User": "ingot", "StateDirectory": "ingot"} {
		if got := setting(t, key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	oracle.Need(t, "systemd", "systemd-analyze")
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold="+strconv.Itoa(exposure), "ingot.service").CombinedOutput()
	if err != nil {
		t.Fatalf("exposed more than %d tenths: %v\n%s", exposure, err, out)
	}
	m := regexp.MustCompile(`exposure level for ingot.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil || !strings.Contains(read(t, "../docs/serve.md"), "exposure level of "+string(m[1])) {
		t.Errorf("docs/serve.md does not say the level that systemd gives: %s", m)
	}
}

func setting(t *testing.T, key string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(read(t, "ingot.service"), -1)
	if len(m) != 1 {
		t.Fatalf("%s is there %d times", key, len(m))
	}
	return m[0][1]
}

// TestSampleConfiguration has every key of the sample in the reference.
func TestSampleConfiguration(t *testing.T) {
	reference := read(t, "../docs/serve-keys.md")
	for _, key := range regexp.MustCompile(`(?m)^([a-z]+):`).FindAllStringSubmatch(read(t, "serve.yaml"), -1) {
		if !strings.Contains(reference, "\n### `"+key[1]+"`\n") {
			t.Errorf("the sample has the key %s, which there is not", key[1])
		}
	}
}

// deb makes the package around a program that is none, under other circumstances
// each time.
func deb(t *testing.T, umask, zone string) string {
	t.Helper()
	oracle.Need(t, "dpkg", "dpkg-deb")
	dir := t.TempDir()
	path := filepath.Join(dir, "ingot")
	program(t, path)
	cmd := exec.Command("sh", "-c", "umask "+umask+"; exec ./deb.sh amd64 "+dir)
	// A time to come: dpkg-deb sets later times of files to it by itself, and no earlier ones.
	cmd.Env = append(os.Environ(), "INGOT="+path, "SOURCE_DATE_EPOCH=1900000000", "TZ="+zone)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// program makes a program that stands in for ingot.
func program(t *testing.T, path string) {
	t.Helper()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", path, "./testdata/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestDebIsReproducible: the same bytes with another umask, zone, directory.
func TestDebIsReproducible(t *testing.T) {
	a, b := deb(t, "022", "UTC"), deb(t, "077", "Asia/Tokyo")
	if read(t, a) != read(t, b) {
		t.Error("two packages of one program differ")
	}
	out, err := dpkgDeb("--contents", a).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, " 2030-03-17 17:46 ") || !strings.Contains(line, " root/root ") {
			t.Errorf("time or owner of the builder: %s", line)
		}
	}
}

func dpkgDeb(args ...string) *exec.Cmd {
	cmd := exec.Command("dpkg-deb", args...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	return cmd
}

// TestDebIsPolicy has lintian look for what Debian does not take.
func TestDebIsPolicy(t *testing.T) {
	path := deb(t, "022", "UTC")
	oracle.Need(t, "lintian", "lintian")
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags",
		// Go's static programs are neither of both; the program is ours, whatever its kind.
		"hardening-no-pie,hardening-no-relro,statically-linked-binary,initial-upload-closes-no-bugs,maintainer-script-calls-systemctl", path).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDebInstalls puts the package into an empty system, and takes it out again.
func TestDebInstalls(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	path := deb(t, "022", "UTC")
	oracle.Need(t, "dpkg", "dpkg")
	oracle.Need(t, "systemd", "systemd-sysusers")
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "var/lib/dpkg/status"), "")
	dpkg := func(args ...string) {
		t.Helper()
		// There is no systemd in an empty system to depend on.
		args = append([]string{"--root=" + root, "--log=/dev/null", "--force-depends", "--force-script-chrootless"}, args...)
		if out, err := exec.Command("dpkg", args...).CombinedOutput(); err != nil {
			t.Fatalf("dpkg %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	dpkg("--install", path)
	for _, file := range []string{"usr/bin/ingot", "usr/lib/systemd/system/ingot.service", "usr/share/doc/ingot/serve.md", "usr/share/doc/ingot/netboot-dhcp.md"} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Error(err)
		}
	}
	if users := read(t, filepath.Join(root, "etc/passwd")); !regexp.MustCompile(`(?m)^ingot:[^:]*:[0-9]+:[0-9]+:ingot boot server:/var/lib/ingot:/usr/sbin/nologin$`).MatchString(users) {
		t.Errorf("no user:\n%s", users)
	}
	write(t, filepath.Join(root, "etc/ingot/serve.yaml"), "releases: [x]\n")
	if err := os.MkdirAll(filepath.Join(root, "var/lib/ingot"), 0o700); err != nil {
		t.Fatal(err)
	}
	dpkg("--remove", "ingot")
	for file, there := range map[string]bool{"usr/bin/ingot": false, "usr/lib/systemd/system/ingot.service": false, "etc/ingot/serve.yaml": true, "var/lib/ingot": true} {
		if _, err := os.Stat(filepath.Join(root, file)); (err == nil) != there {
			t.Errorf("after remove: %s: %v", file, err)
		}
	}
	dpkg("--purge", "ingot")
	if _, err := os.Stat(filepath.Join(root, "var/lib/ingot")); err == nil {
		t.Error("after purge the state is there")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestContainer builds the image and runs the program in it, which is all there is
// inside.
func TestContainer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	oracle.Need(t, "buildah", "buildah")
	dir := t.TempDir()
	program(t, filepath.Join(dir, "bin", "ingot"))
	buildah := func(args ...string) string {
		t.Helper()
		args = append([]string{"--storage-driver", "vfs", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run")}, args...)
		var stderr bytes.Buffer
		cmd := exec.Command("buildah", args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("buildah %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	buildah("bud", "--isolation", "chroot", "-f", "Containerfile", "-t", "ingot", dir)
	id := buildah("from", "ingot")
	if got := buildah("run", "--isolation", "chroot", id, "--", "/usr/bin/ingot", "serve"); got != "program serve" {
		t.Errorf("it says %q", got)
	}
	buildah("rm", id)
	buildah("rmi", "ingot")
}
