package lock_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/lock/local"
	"github.com/ingot-os/ingot/internal/recipe"
)

const (
	sha1 = "1111111111111111111111111111111111111111111111111111111111111111"
	sha2 = "2222222222222222222222222222222222222222222222222222222222222222"
	sha3 = "3333333333333333333333333333333333333333333333333333333333333333"
)

// TestTrustInputs: a directory of keys is one input, single files one each, and
// a file that is named twice is one.
func TestTrustInputs(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for _, name := range []string{"a.pem", "b.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		trust recipe.Trust
		want  []string
	}{
		{recipe.Trust{Keys: "."}, []string{"dir trust"}},
		{recipe.Trust{PK: "a.pem", KEK: "./a.pem", DB: []string{"b.pem"}, Image: []string{"b.pem"}}, []string{"file trust/a.pem", "file trust/b.pem"}},
	} {
		r := &recipe.Recipe{Name: "demo", Version: "1", Arch: "amd64", Dir: dir, Trust: &c.trust}
		r.Kernel.Package, r.Stub.Package = "linux-image-cloud-amd64", "systemd-boot-efi"
		l := resolve(t, w, r, nil)
		var got []string
		for _, n := range names(l) {
			if strings.Contains(n, "trust") {
				got = append(got, n)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%+v (-want +got)\n%s", c.trust, d)
		}
		if err := os.WriteFile(filepath.Join(dir, "b.pem"), []byte(c.want[0]), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := lock.Verify(l, r); err == nil || !strings.Contains(err.Error(), "b.pem") {
			t.Errorf("a key was exchanged: %v", err)
		}
	}
}

// world is everything outside that Resolve may ask; it counts the questions.
type world struct {
	version string // of every package
	date    time.Time
	image   string
	goVer   string
	asked   []string
	dir     string
}

func (w *world) Package(_ context.Context, suite, arch, name string) (lock.Input, time.Time, error) {
	w.asked = append(w.asked, name)
	if name == "nonsense" {
		return lock.Input{}, time.Time{}, errors.New("no such package")
	}
	in := lock.Input{Kind: lock.KindDeb, SHA256: sha1, Size: 5, Package: name, Version: w.version, Arch: arch, Suite: suite, Pocket: "main", Path: "pool/" + name + w.version}
	if name == "linux-image-cloud-amd64" {
		in.Via, in.Package = name, "linux-image-"+w.version+"-cloud-amd64"
	}
	return in, w.date, nil
}

func (w *world) Image(_ context.Context, ref, _, arch string) (lock.Input, error) {
	w.asked = append(w.asked, ref)
	return lock.Input{Kind: lock.KindOCI, SHA256: w.image, Size: 7, Path: ref, Arch: arch, Blobs: []lock.Blob{{SHA256: sha1, Size: 1}}}, nil
}

func (w *world) Fetch(_ context.Context, in lock.Input, _ string) (string, error) {
	w.asked = append(w.asked, in.Path)
	path := filepath.Join(w.dir, "download")
	return path, os.WriteFile(path, []byte("12345"), 0o600)
}

func (w *world) Open(string) (*os.File, error) { return nil, errors.New("not asked for") }

func (w *world) Version(context.Context) (string, error) {
	w.asked = append(w.asked, "go")
	return w.goVer, nil
}

func (w *world) Modules(_ context.Context, _ string, programs, uroot []string) ([]string, []string, error) {
	w.asked = append(w.asked, "modules")
	return []string{"module x", "require " + strings.Join(programs, " ")}, uroot, nil
}

func (w *world) Sources(_ context.Context, dir, pkg string, _ []string, arch string) (map[string]string, error) {
	sha, _, err := local.HashFile(filepath.Join(dir, pkg, "main.go"))
	return map[string]string{filepath.ToSlash(filepath.Join(pkg, "main.go")): sha}, err
}

// newRecipe has an input of every kind.
func newRecipe(t *testing.T) *recipe.Recipe {
	t.Helper()
	d := t.TempDir()
	for name, text := range map[string]string{"motd": "hi", "conf/a": "a", "conf/b": "b", "hello/main.go": "package main", "fw.bin": "fw"} {
		p := filepath.Join(d, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	content := "inline"
	return &recipe.Recipe{
		Name: "demo", Version: "1.0", Arch: "amd64", Dir: d, Path: filepath.Join(d, "appliance.yaml"),
		Kernel:   recipe.Kernel{Package: "linux-image-cloud-amd64", Suite: "trixie"},
		Stub:     recipe.Stub{Package: "systemd-boot-efi", Suite: "trixie"},
		Firmware: []recipe.Firmware{{Package: "firmware-realtek", Suite: "trixie"}, {Source: "./fw.bin"}, {Package: "firmware-realtek", Suite: "trixie", Files: []string{"x"}}},
		URoot:    []string{"ls"},
		Go:       []recipe.Program{{Package: "./hello", Name: "hello"}, {Package: "example.com/m/cmd/x@v1.2.3", Name: "x"}},
		Files: []recipe.File{
			{Path: "/etc/motd", Source: "motd"}, {Path: "/etc/conf", Source: "conf"}, {Path: "/etc/in", Content: &content},
			{Path: "/opt/dl", URL: "https://example.com/dl", SHA256: sha2}, {Path: "/etc/ln", Symlink: "motd"},
		},
		Root: &recipe.Root{OCI: "registry.example/app:1"},
		Boot: recipe.Boot{Loader: "systemd-boot"},
	}
}

func newWorld(t *testing.T) *world {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	return &world{version: "6.12.1", date: time.Unix(1_700_000_000, 0), image: sha3, goVer: "go1.26.8", dir: t.TempDir()}
}

func resolve(t *testing.T, w *world, r *recipe.Recipe, old *lock.Lock, update ...string) *lock.Lock {
	t.Helper()
	w.asked = nil
	l, err := lock.Resolve(context.Background(), lock.Options{
		Recipe: r, Old: old, Update: update, Fetcher: w, Go: w, Init: sha1, Now: func() time.Time { return time.Unix(42, 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func names(l *lock.Lock) []string {
	var list []string
	for _, in := range l.Inputs {
		list = append(list, string(in.Kind)+" "+in.Name)
	}
	return list
}

func TestResolvePinsEverything(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	l := resolve(t, w, r, nil)
	want := []string{
		"deb ca-certificates", "dir file/etc/conf", "file file/etc/motd", "url file/opt/dl", "deb firmware/firmware-realtek", "file firmware/fw.bin",
		"go-dir go/hello", "go-module go/modules", "deb kernel", "deb loader", "oci root", "deb stub", "deb tzdata",
	}
	if d := cmp.Diff(want, names(l)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	head := *l
	head.Inputs = nil
	wantHead := lock.Lock{Format: 1, Name: "demo", Version: "1.0", Arch: "amd64", Recipe: recipe.Digest(r), Epoch: 1_700_000_000, Ingot: lock.Ingot{Format: lock.ImageFormat, Init: sha1}, Go: "go1.26.8"}
	if d := cmp.Diff(wantHead, head); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if k := l.Find("kernel"); k.Via != "linux-image-cloud-amd64" || k.Package != "linux-image-6.12.1-cloud-amd64" {
		t.Errorf("kernel %+v", k)
	}
	if u := l.Find("file/opt/dl"); u.Size != 5 {
		t.Errorf("a download's size is %d, want 5", u.Size)
	}
	if err := lock.Verify(l, r); err != nil {
		t.Errorf("fresh lock: %v", err)
	}
}

func TestPinsStayWithoutTheNetwork(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	old := resolve(t, w, r, nil)
	w.version, w.image, w.goVer, w.date = "6.12.2", sha2, "go1.27", w.date.Add(time.Hour)
	l := resolve(t, w, r, old)
	if len(w.asked) != 0 {
		t.Errorf("asked for %v", w.asked)
	}
	if d := cmp.Diff(old, l); d != "" {
		t.Errorf("something moved\n%s", d)
	}
}

// TestUpdateMovesOnlyWhatItNames is a table of names and what moves.
func TestUpdateMovesOnlyWhatItNames(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	old := resolve(t, w, r, nil)
	old.Ingot.Init = sha2
	w.version, w.image, w.goVer, w.date = "6.12.2", sha2, "go1.27", w.date.Add(time.Hour)
	for _, tc := range []struct{ update, moves string }{
		{"kernel", "kernel epoch"},
		{"stub", "stub epoch"},
		{"firmware", "firmware/firmware-realtek epoch"},
		{"root", "root"},
		{"go", "go"},
		{"go/modules", ""}, // resolved again, to the same
		{"ingot", "ingot"},
		{"epoch", "epoch"},
		{"file/etc/motd", ""},
		{"all", "ca-certificates firmware/firmware-realtek kernel loader root stub tzdata go ingot epoch"},
	} {
		l := resolve(t, w, r, old, tc.update)
		var moved []string
		for _, c := range lock.Diff(old, l) {
			moved = append(moved, c.Name)
		}
		if got := strings.Join(moved, " "); got != tc.moves {
			t.Errorf("update %s moved %q, want %q", tc.update, got, tc.moves)
		}
	}
}

func TestARecipeThatAsksForSomethingElseMovesIt(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name string
		edit func(r *recipe.Recipe)
		asks string
	}{
		{"another kernel", func(r *recipe.Recipe) { r.Kernel.Package = "linux-image-amd64" }, "linux-image-amd64"},
		{"another suite", func(r *recipe.Recipe) { r.Stub.Suite = "bookworm" }, "systemd-boot-efi systemd-boot-efi"},
		{"another image", func(r *recipe.Recipe) { r.Root.OCI = "registry.example/app:2" }, "registry.example/app:2"},
		{"another digest", func(r *recipe.Recipe) { r.Files[3].SHA256 = sha3 }, "https://example.com/dl"},
		{"one more command", func(r *recipe.Recipe) { r.URoot = append(r.URoot, "cat") }, "modules"},
		{"the kernel that the metapackage led to, by name", func(r *recipe.Recipe) { r.Kernel.Package = "linux-image-6.12.1-cloud-amd64" }, ""},
		{"something without an input", func(r *recipe.Recipe) { r.Cmdline = []string{"quiet"} }, ""},
		{"another architecture", func(r *recipe.Recipe) { r.Arch = "arm64" },
			"linux-image-cloud-amd64 systemd-boot-efi systemd-boot-efi firmware-realtek modules https://example.com/dl registry.example/app:1 ca-certificates tzdata go"},
	} {
		r := newRecipe(t)
		old := resolve(t, w, r, nil)
		tc.edit(r)
		resolve(t, w, r, old)
		if got := strings.Join(w.asked, " "); got != tc.asks {
			t.Errorf("%s: asked for %q, want %q", tc.name, got, tc.asks)
		}
	}
}

func TestInputsThatTheRecipeDropsGo(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	old := resolve(t, w, r, nil)
	r.Root, r.Firmware, r.Go, r.URoot, r.Boot.Loader = nil, nil, nil, nil, ""
	l := resolve(t, w, r, old)
	if got, want := strings.Join(names(l), ", "), "dir file/etc/conf, file file/etc/motd, url file/opt/dl, deb kernel, deb stub"; got != want {
		t.Errorf("got %s", got)
	}
	if l.Go != "" {
		t.Errorf("Go version %q without Go code", l.Go)
	}
}

func TestUnknownUpdateName(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	for name, hint := range map[string]string{"kernal": `did you mean "kernel"?`, "modules": `did you mean "go/modules"?`, "xyzzy": ""} {
		_, err := lock.Resolve(context.Background(), lock.Options{Recipe: r, Fetcher: w, Go: w, Update: []string{name}})
		var bad *lock.NameError
		if !errors.As(err, &bad) || bad.Hint() != hint || !strings.Contains(err.Error(), "firmware/firmware-realtek") {
			t.Errorf("%s: %v, hint %q, want %q and the list of names", name, err, bad.Hint(), hint)
		}
	}
}

func TestEpoch(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	check := func(name string, l *lock.Lock, want int64) {
		t.Helper()
		if l.Epoch != want {
			t.Errorf("%s: epoch %d, want %d", name, l.Epoch, want)
		}
	}
	l := resolve(t, w, r, nil)
	check("newest index", l, 1_700_000_000)
	w.date = time.Unix(1_600_000_000, 0)
	check("an older index while other packages stay", resolve(t, w, r, l, "kernel"), 1_700_000_000)
	check("an older index, everything new", resolve(t, w, r, l, "all"), 1_600_000_000)
	bare := &recipe.Recipe{Name: "x", Version: "1", Arch: "amd64", Dir: r.Dir, Kernel: recipe.Kernel{File: "motd"}, Stub: recipe.Stub{File: "motd"}}
	check("nothing but local files", resolve(t, w, bare, nil), 42)
	check("nothing but local files, before", resolve(t, w, bare, &lock.Lock{Arch: "amd64", Epoch: 99}), 99)
	t.Setenv("SOURCE_DATE_EPOCH", "1234")
	check("SOURCE_DATE_EPOCH", resolve(t, w, r, l), 1234)
	r.Epoch = "2001-02-03T04:05:06Z"
	check("the recipe's", resolve(t, w, r, l), 981173106)
	r.Epoch = ""
	t.Setenv("SOURCE_DATE_EPOCH", "now")
	if _, err := lock.Resolve(context.Background(), lock.Options{Recipe: r, Old: l, Fetcher: w, Go: w}); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("got %v", err)
	}
}

func TestResolveReportsAllLocalErrorsBeforeTheNetwork(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	r.Files[0].Source, r.Firmware[1].Source, r.Kernel.Package = "gone1", "gone2", "nonsense"
	_, err := lock.Resolve(context.Background(), lock.Options{Recipe: r, Fetcher: w, Go: w})
	if err == nil || !strings.Contains(err.Error(), "lock file/etc/motd: ") || !strings.Contains(err.Error(), "gone2: no such file") {
		t.Errorf("got %v", err)
	}
	if len(w.asked) != 0 {
		t.Errorf("asked for %v", w.asked)
	}
}

func TestVerifyReportsAllAtOnce(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	l := resolve(t, w, r, nil)
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		p := filepath.Join(r.Dir, name)
		if err := errors.Join(os.WriteFile(p, []byte(text), mode), os.Chmod(p, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("motd", "hi", 0o755) // the same bytes, executable
	write("conf/b", "changed", 0o644)
	write("conf/new", "", 0o644)
	write("hello/main.go", "package other", 0o644)
	if err := os.Remove(filepath.Join(r.Dir, "fw.bin")); err != nil {
		t.Fatal(err)
	}
	r.Cmdline = []string{"quiet"}
	err := lock.Verify(l, r)
	var list lock.MismatchError
	if !errors.As(err, &list) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, m := range list {
		rel, _ := filepath.Rel(r.Dir, m.Path)
		got = append(got, m.Name+" "+rel+" | "+m.Hint)
	}
	want := []string{
		"recipe appliance.yaml | ingot lock",
		"file/etc/conf conf/b | ingot lock --update file/etc/conf",
		"file/etc/conf conf/new | ingot lock --update file/etc/conf",
		"file/etc/motd motd | ingot lock --update file/etc/motd",
		"firmware/fw.bin fw.bin | ingot lock --update firmware/fw.bin",
		"go/hello hello/main.go | ingot lock --update go/hello",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for _, m := range list {
		if !strings.Contains(err.Error(), "expected "+m.Want+", got "+m.Got) || m.Want == m.Got {
			t.Errorf("%q does not say expected and got of %+v", err, m)
		}
	}
}

// TestVerifyIsFast: before every build, and on every ingot check.
func TestVerifyIsFast(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	l := resolve(t, w, r, nil)
	best := time.Hour
	for range 5 {
		start := time.Now()
		if err := lock.Verify(l, r); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	if best > 50*time.Millisecond {
		t.Errorf("took %v, want under 50 ms", best)
	}
}

func TestWriteAndRead(t *testing.T) {
	w, r := newWorld(t), newRecipe(t)
	l := resolve(t, w, r, nil)
	path := filepath.Join(r.Dir, "appliance.lock")
	if err := l.Write(path); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := lock.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l, again); d != "" {
		t.Errorf("(-written +read)\n%s", d)
	}
	slices.Reverse(again.Inputs)
	second, err := again.Bytes()
	if err != nil || string(first) != string(second) {
		t.Errorf("the order of inputs in memory changes the file: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.Dir, ".appliance*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := lock.Read(filepath.Join(r.Dir, "none")); !os.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
}

func TestParseIsStrict(t *testing.T) {
	good := `{
  "format": 1, "name": "a", "version": "1", "arch": "amd64", "recipe": "", "epoch": 1,
  "ingot": {"format": 1, "init": ""},
  "inputs": [{"name": "kernel", "kind": "deb", "sha256": "` + sha1 + `", "package": "p", "version": "1", "path": "pool/p"}]
}
`
	if _, err := lock.Parse("l", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, from, to, says string }{
		{"unknown field", `"epoch": 1`, `"epok": 1`, `l:2:76: unknown field "epok"`},
		{"unknown field of an input", `"package"`, `"pakage"`, "l:4:"},
		{"a later format", `"format": 1, "name"`, `"format": 2, "name"`, "format 2, this ingot reads 1"},
		{"no format", `"format": 1, "name"`, `"name"`, "format is missing"},
		{"wrong type", `"epoch": 1`, `"epoch": "1"`, "l:2:"},
		{"wrong type, named", `"epoch": 1`, `"epoch": "1"`, "field epoch"},
		{"not JSON", `"inputs": [`, `"inputs": (`, "l:4:"},
		{"cut", "]\n}\n", "", "unexpected end"},
		{"more after it", "]\n}\n", "]\n}\n{}", "after top-level value"},
		{"digest", sha1, sha1[1:], "64 lower-case hex digits"},
		{"kind", `"deb"`, `"rpm"`, `unknown kind "rpm"`},
		{"path", `pool/p`, `../p`, "leaves the archive"},
		{"source without a version", `"path"`, `"source": "p", "path"`, "want a package and a version"},
		{"source with more", `"path"`, `"source": "p 1 2", "path"`, "want a package and a version"},
		{"no version", `"version": "1", "path"`, `"path"`, "needs package and version"},
		{"twice", `"inputs": [`, `"inputs": [{"name": "kernel", "kind": "file", "sha256": "` + sha2 + `"}, `, "twice"},
		{"negative size", `"kind": "deb"`, `"kind": "deb", "size": -1`, "size -1"},
		{"a directory that is left", `"kind": "deb"`, `"kind": "dir", "files": {"../x": ""}`, "leaves the directory"},
	} {
		bad := strings.Replace(good, tc.from, tc.to, 1)
		if bad == good {
			t.Fatalf("%s: the test changes nothing", tc.name)
		}
		if _, err := lock.Parse("l", []byte(bad)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want it to say %q", tc.name, err, tc.says)
		}
	}
}

func TestDiffText(t *testing.T) {
	deb := lock.Input{Name: "kernel", Kind: lock.KindDeb, SHA256: sha1, Package: "linux", Version: "1", Pocket: "main"}
	newer := deb
	newer.Version, newer.SHA256, newer.Pocket = "2", sha2, "security"
	rebuilt := deb
	rebuilt.SHA256 = sha2
	file := lock.Input{Name: "file/x", Kind: lock.KindFile, SHA256: sha1}
	of := func(in ...lock.Input) *lock.Lock { return &lock.Lock{Inputs: in} }
	for _, tc := range []struct {
		old, new *lock.Lock
		want     string
	}{
		{nil, of(deb), "kernel: new: linux 1"},
		{of(deb), of(), "kernel: removed: linux 1"},
		{of(deb), of(newer), "kernel: 1 -> 2 (security)"},
		{of(deb), of(rebuilt), "kernel: 1 111111111111 -> 1 222222222222"},
		{of(file), of(file), ""},
		{&lock.Lock{Epoch: 0}, &lock.Lock{Epoch: 1}, "epoch: new: 1970-01-01T00:00:01Z"},
	} {
		var got []string
		for _, c := range lock.Diff(tc.old, tc.new) {
			got = append(got, c.String())
		}
		if g := strings.Join(got, "; "); g != tc.want {
			t.Errorf("got %q, want %q", g, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"inputs":[{"name":"a","kind":"file","sha256":"` + sha1 + `"}]}`))
	f.Add([]byte(`{"format":1,"inputs":null}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := lock.Parse("l", b)
		if err != nil {
			return
		}
		text, err := l.Bytes()
		if err != nil {
			t.Fatalf("read but not writable: %v", err)
		}
		again, err := lock.Parse("l", text)
		if err != nil {
			t.Fatalf("written but not readable: %v\n%s", err, text)
		}
		x, _ := json.Marshal(l)
		y, _ := json.Marshal(again)
		if len(l.Inputs) < 2 && !reflect.DeepEqual(x, y) {
			t.Errorf("%s became %s", x, y)
		}
	})
}
