package recipe

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/initramfs/kmod"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/golden"
)

func mustParse(t *testing.T, text string) *Recipe {
	t.Helper()
	r, err := Parse("dir/appliance.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const head = "name: probe\nversion: \"1\"\n"

func TestDefaults(t *testing.T) {
	r := mustParse(t, head+`
go: [{package: example.com/a/app/v2@v2.0.0}, {package: ./cmd/tool}]
services: [{name: a, command: /bin/app, health: {http: {port: 80}}}]
smoke: [{name: s, http: {port: 80}}]
root: {directory: x}
`)
	s := r.Services[0]
	got := []any{r.Arch, r.Kernel.Package, r.Kernel.Suite, r.Stub.Package, r.Modules, r.Cmdline, r.Compress, r.Go[0].Name, r.Go[1].Name,
		r.Network, r.Management.Listen, s.Restart.Policy, s.Restart.Backoff.String(), s.Restart.Max.String(), s.StopTimeout.String(),
		s.Health.Interval.String(), s.Health.Retries, s.Health.HTTP.Path, s.Health.HTTP.Status, r.Smoke[0].Timeout.String(),
		r.Disk, r.Data.Mount, r.Data.Filesystem, r.Data.Size, r.Root.Format, r.Boot.Loader, r.Path, r.Dir}
	want := []any{"amd64", "linux-image-cloud-amd64", "trixie", "systemd-boot-efi", []string{"virtio"}, []string{"console=ttyS0"}, "none", "app", "tool",
		[]appliance.Interface{{DHCP: true}}, ":9443", "always", "1s", "30s", "10s",
		"5s", 3, "/", 200, "30s",
		Disk{Sector: 512, ESP: 128 * MiB, Slot: 256 * MiB, Root: GiB}, "/data", "ext4", 64 * MiB, "squashfs", "firmware", "dir/appliance.yaml", "dir"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDefaultsYieldToTheRecipe(t *testing.T) {
	r := mustParse(t, head+"arch: arm64\nmodules: []\nnetwork: []\ncmdline: [quiet]\ndata: {disabled: true}\nservices: [{name: a, command: /bin/a, restart: {backoff: 1m}}]\n")
	if len(r.Modules) != 0 || len(r.Network) != 0 {
		t.Errorf("empty lists were filled: %v %v", r.Modules, r.Network)
	}
	if want := []string{"console=ttyAMA0", "quiet"}; !slices.Equal(r.Cmdline, want) {
		t.Errorf("cmdline is %v, want %v", r.Cmdline, want)
	}
	if r.Data.Mount != "" || r.Data.Size != 0 {
		t.Errorf("data is disabled and has %+v", r.Data)
	}
	if got := r.Services[0].Restart.Max.String(); got != "1m0s" {
		t.Errorf("restart.max is %s, want the first wait", got)
	}
	if r := mustParse(t, head+"cmdline: [console=tty0]\n"); !slices.Equal(r.Cmdline, []string{"console=tty0"}) {
		t.Errorf("cmdline with a console became %v", r.Cmdline)
	}
}

func TestDigest(t *testing.T) {
	base := head + "modules: [virtio, wireguard]\ndisk: {slot: 512M}\nservices: [{name: a, command: /bin/a, env: {A: x, B: y}}]\nfiles: [{path: /a, content: \"\"}]\n"
	same := []string{
		"# comment\n" + base,
		"version: \"1\"\nname: probe\n" + strings.TrimPrefix(base, head),
		strings.Replace(base, "512M", "0000512 MiB", 1),
		strings.Replace(base, "{A: x, B: y}", "\n      {\"B\": y,\n       A: 'x'}", 1),
		base + "arch: amd64\n", // a default, written out
		base + "scan: {threshold: high, waivers: [{id: CVE-2026-1000, reason: because, expires: 2026-12-31}]}\n",
		strings.Replace(base, "slot: 512M", "slot: 536870912", 1),
	}
	want := Digest(mustParse(t, base))
	if len(want) != 64 {
		t.Fatalf("digest is %q", want)
	}
	for i, text := range same {
		r, err := Parse(fmt.Sprintf("/elsewhere/%d.yaml", i), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := Digest(r); got != want {
			t.Errorf("variant %d means the same and has another digest", i)
		}
	}
	seen := map[string]int{want: -1}
	for i, edit := range [][2]string{
		{"virtio, wireguard", "wireguard, virtio"}, {"512M", "513M"}, {"A: x", "A: z"}, {"A: x, ", ""}, {"content: \"\"", "content: x"},
		{"content: \"\"", "symlink: /proc"}, {"command: /bin/a", "command: /bin/b"}, {"name: probe", "name: probe2"}, {"\"1\"", "\"2\""},
	} {
		got := Digest(mustParse(t, strings.Replace(base, edit[0], edit[1], 1)))
		if j, ok := seen[got]; ok {
			t.Errorf("edits %d and %d have one digest", i, j)
		}
		seen[got] = i
	}
}

// TestDigestIsStable pins the canonical form: a new digest rule invalidates
// every lock in the world.
func TestDigestIsStable(t *testing.T) {
	r, err := Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "testdata/full.digest", Digest(r)+"\n")
}

func TestSpec(t *testing.T) {
	r, err := Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := Spec(r)
	if want := []string{"wireguard"}; !slices.Equal(s.Modules, want) {
		t.Errorf("modules are %v, want %v", s.Modules, want)
	}
	if s.Format != 1 || s.Name != "full" || s.Version != "1.10~rc1+2" || s.Arch != "amd64" || len(s.Services) != 3 || len(s.Network) != 3 ||
		len(s.Smoke) != 2 || len(s.Users) != 1 || s.Data.Mount != "/var/data" || s.Management.Listen != "127.0.0.1:9443" || len(s.NTP) != 2 {
		t.Errorf("spec is %+v", s)
	}
	if u := s.Update; u == nil || !u.Pull || !u.USB || u.Bless != "attested" || u.Tries != 2 || s.Data.Schema != 2 || s.Data.Accepts != 3 {
		t.Errorf("update is %+v, data %+v", s.Update, s.Data)
	}
	if !slices.Contains(r.Modules, "virtio") {
		t.Error("Spec took the groups out of the recipe itself")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"1": 1, "512B": 512, "4K": 4096, "4KB": 4096, "4KiB": 4096, "128M": 128 * MiB, "128 MiB": 128 * MiB, "2G": 2 * GiB, "1T": TiB} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is %d, %v, want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1M", "+1M", "1.5G", "1e3", "1 M B", "1MM", "1m", "1Mi", "9999999T", "1  M", " 1M", "1M "} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %d", text, s)
		}
	}
	for s, want := range map[Size]string{0: "0 B", 1: "1 B", 1536: "1536 B", 4096: "4 KiB", 128 * MiB: "128 MiB", 3 * TiB: "3 TiB"} {
		if got := s.String(); got != want {
			t.Errorf("%d prints %q, want %q", int64(s), got, want)
		}
	}
}

func TestModes(t *testing.T) {
	for text, want := range map[string]fs.FileMode{"0644": 0o644, "644": 0o644, "0o755": 0o755, "4755": 0o755 | fs.ModeSetuid, "1777": 0o777 | fs.ModeSticky, "02750": 0o750 | fs.ModeSetgid} {
		var m Mode
		if err := m.UnmarshalText([]byte(text)); err != nil || m.Or(0) != want {
			t.Errorf("%q is %v, %v, want %v", text, m.Or(0), err, want)
		}
	}
	for _, text := range []string{"", "888", "77777", "rwx", "0x1ff", "-1"} {
		var m Mode
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, m)
		}
	}
	if got := Mode(0).Or(0o644); got != 0o644 {
		t.Errorf("no mode is %v, want the default", got)
	}
	// YAML 1.1 and 1.2 read 0644 differently; the digits as written count.
	r := mustParse(t, head+"files: [{path: /a, content: x, mode: 0644}, {path: /b, content: x, mode: \"0644\"}, {path: /c, content: x, mode: 644}]\n")
	for _, f := range r.Files {
		if f.Mode != 0o644 {
			t.Errorf("%s has mode %v", f.Path, f.Mode)
		}
	}
}

func TestOwner(t *testing.T) {
	r := &Recipe{Users: []appliance.User{{Name: "app", UID: 1000}, {Name: "db", UID: 1001}}}
	for text, want := range map[string][2]uint32{"": {0, 0}, "root": {0, 0}, "app": {1000, 1000}, "app:db": {1000, 1001}, "7": {7, 7}, "7:8": {7, 8}, "nobody:nogroup": {65534, 65534}} {
		uid, gid, err := r.Owner(text)
		if err != nil || uid != want[0] || gid != want[1] {
			t.Errorf("Owner(%q) = %d:%d, %v, want %v", text, uid, gid, err, want)
		}
	}
	for _, text := range []string{"web", "app:web", "4294967295", "-1", "app:"} {
		if _, _, err := r.Owner(text); err == nil {
			t.Errorf("Owner(%q) is accepted", text)
		}
	}
}

func TestDurations(t *testing.T) {
	for _, text := range []string{"5", "0", "0s", "-1s", "+1s", "1", "", "s", "1d", "1 s"} {
		var d appliance.Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, d)
		}
	}
	var d appliance.Duration
	if err := d.UnmarshalText([]byte("1m30s")); err != nil || time.Duration(d) != 90*time.Second {
		t.Errorf("1m30s is %v, %v", d, err)
	}
}

// TestGroupsAreThoseOfKmod keeps the words of the reference in step with the table of drivers.
func TestGroupsAreThoseOfKmod(t *testing.T) {
	for _, g := range Groups {
		if len(kmod.Groups[g.Name]) == 0 || g.For == "" {
			t.Errorf("group %s: %d modules, for %q", g.Name, len(kmod.Groups[g.Name]), g.For)
		}
	}
	if len(Groups) != len(kmod.Groups) {
		t.Errorf("%d groups are described, there are %d", len(Groups), len(kmod.Groups))
	}
}

// TestURootCommands compares the list with the module itself, when it is in the module cache.
func TestURootCommands(t *testing.T) {
	cache := os.Getenv("GOMODCACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Skip("no home directory, so no module cache")
		}
		cache = filepath.Join(home, "go", "pkg", "mod")
	}
	root := filepath.Join(cache, "github.com", "u-root", "u-root@v0.16.0", "cmds")
	if _, err := os.Stat(root); err != nil {
		t.Skip("u-root v0.16.0 is not in the module cache")
	}
	var want []string
	for _, set := range []string{"core", "boot", "cluster", "contrib", "exp", "extra", "fwtools"} {
		files, err := filepath.Glob(filepath.Join(root, set, "*", "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			want = append(want, filepath.Base(filepath.Dir(f)))
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if d := cmp.Diff(want, urootNames); d != "" {
		t.Error(d)
	}
}

// TestExamplesDecode reads every top-level example of the reference as part of a recipe.
func TestExamplesDecode(t *testing.T) {
	for _, k := range Keys().Keys {
		if strings.ContainsAny(k.Path, ".[{") || k.Example == "" || k.Path == "name" || k.Path == "version" {
			continue
		}
		_, errs := parse("reference.yaml", []byte(head+k.Example+"\n"))
		errs = slices.DeleteFunc(errs, func(e Error) bool { return strings.Contains(e.Msg, "no user of this recipe") })
		if len(errs) > 0 {
			t.Errorf("example of %s:\n%s\n%v", k.Path, k.Example, errs)
		}
	}
}

// TestExamplesNameTheirKey wants the short examples to begin with their key.
func TestExamplesNameTheirKey(t *testing.T) {
	for _, k := range Keys().Keys {
		name := strings.TrimSuffix(k.Path[strings.LastIndexByte(k.Path, '.')+1:], "[]")
		if k.Example != "" && !strings.HasPrefix(k.Example, name+":") {
			t.Errorf("the example of %s is %q", k.Path, k.Example)
		}
	}
}

// TestRecipeMadeInGo has no document: findings name the file only.
func TestRecipeMadeInGo(t *testing.T) {
	r := &Recipe{Name: "x", Version: "1", Path: "made.yaml", Services: []appliance.Service{{Name: "a", Command: "/bin/a", After: []string{"b"}}}}
	r.applyDefaults()
	errs := append(Validate(r), Check(r, Facts{})...)
	if len(errs) != 2 || errs[0].Line != 0 || !strings.HasPrefix(errs[0].Error(), "made.yaml: service a waits") {
		t.Errorf("got %v", errs)
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		for _, file := range corpus(f, dir) {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("/nonexistent/appliance.yaml", data)
		if (r == nil) == (err == nil) {
			t.Fatalf("recipe %v, error %v", r, err)
		}
		if r == nil {
			return
		}
		Check(r, Facts{})
		if Digest(r) == "" || Spec(r).Format != 1 {
			t.Fatal("a valid recipe has no digest or spec")
		}
	})
}

// An empty update takes the defaults that docs/recipe.md names, and data is read
// up to the format that is written.
func TestUpdateDefaults(t *testing.T) {
	r := mustParse(t, "name: probe\nversion: \"1\"\ntrust: {keys: ./trust}\nupdate: {}\ndata: {schema: 4}\n")
	want := appliance.Update{Interval: seconds(300), Bless: "health", Health: seconds(60), Limit: seconds(600), Soak: seconds(3600), Patrol: seconds(86400), Tries: 3, Watchdog: seconds(60)}
	if r.Update == nil || *r.Update != want {
		t.Errorf("update is %+v, want %+v", r.Update, want)
	}
	if r.Data.Accepts != 4 {
		t.Errorf("data.accepts is %d, want what schema says", r.Data.Accepts)
	}
	if none := mustParse(t, "name: probe\nversion: \"1\"\n"); none.Update != nil {
		t.Errorf("a recipe without update has %+v", none.Update)
	}
}
