package gobuild

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// program is a recipe directory with two modules: hello, and one beside the
// directory that hello takes by a replace line.
var program = map[string]string{
	"recipe/hello/go.mod":           "module example.invalid/hello\n\ngo 1.26\n\nrequire (\n\texample.invalid/dep v0.0.0\n\texample.invalid/graph v0.0.0\n)\n\nreplace (\n\texample.invalid/dep => ../../dep\n\texample.invalid/graph => ../../graph\n)\n",
	"recipe/hello/main.go":          "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.invalid/dep\"\n\t\"example.invalid/hello/sub\"\n)\n\n//go:embed data/text\nvar text string\n\nfunc main() { println(text, dep.Name, sub.Name, tagged) }\n",
	"recipe/hello/tag_on.go":        "//go:build special\n\npackage main\n\nconst tagged = true\n",
	"recipe/hello/tag_off.go":       "//go:build !special\n\npackage main\n\nconst tagged = false\n",
	"recipe/hello/main_test.go":     "package main\n",
	"recipe/hello/data/text":        "embedded",
	"recipe/hello/data/other":       "not embedded",
	"recipe/hello/sub/sub.go":       "package sub\n\nvar Name = \"sub on \" + arch\n",
	"recipe/hello/sub/sub_amd64.go": "package sub\n\nconst arch = \"amd64\"\n",
	"recipe/hello/sub/sub_arm64.go": "package sub\n\nconst arch = \"arm64\"\n",
	"recipe/hello/unused/unused.go": "package unused\n",
	"graph/go.mod":                  "module example.invalid/graph\n\ngo 1.26\n", // no package of it is used, but the module graph reads its go.mod
	"dep/go.mod":                    "module example.invalid/dep\n\ngo 1.26\n",
	"dep/dep.go":                    "package dep\n\nconst Name = \"dep\"\n",
}

func sources(t *testing.T, tc Toolchain, dir string) map[string]string {
	t.Helper()
	files, err := tc.Sources(context.Background(), dir, "./hello", nil, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSources(t *testing.T) {
	tc := toolchain(t)
	dir := filepath.Join(write(t, program), "recipe")
	want := map[string]string{}
	for _, p := range []string{
		"hello/go.mod", "hello/main.go", "hello/tag_on.go", "hello/tag_off.go", "hello/data/text",
		"hello/sub/sub.go", "hello/sub/sub_amd64.go", "hello/sub/sub_arm64.go", "../dep/go.mod", "../dep/dep.go", "../graph/go.mod",
	} {
		want[p] = sha(program[strings.TrimPrefix("recipe/"+p, "recipe/../")])
	}
	if d := cmp.Diff(want, sources(t, tc, dir)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestSourcesOfWorkspaceAndVendor(t *testing.T) {
	tc := toolchain(t)
	root := write(t, map[string]string{
		"go.work":  "go 1.26\n\nuse (\n\t./a\n\t./b\n)\n",
		"a/go.mod": "module example.invalid/a\n\ngo 1.26\n", "a/main.go": "package main\n\nimport \"example.invalid/b\"\n\nfunc main() { b.B() }\n",
		"b/go.mod": "module example.invalid/b\n\ngo 1.26\n", "b/b.go": "package b\n\nfunc B() {}\n",
	})
	files, err := tc.Sources(context.Background(), root, "./a", nil, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"go.work", "a/go.mod", "a/main.go", "b/go.mod", "b/b.go"} {
		if files[p] == "" {
			t.Errorf("workspace: %s is not listed: %v", p, files)
		}
	}
	build(t, tc, Job{Dir: root, Package: "./a", Files: files})
	build(t, tc, Job{Dir: root, Package: "./a"})

	root = write(t, map[string]string{
		"go.mod":             "module example.invalid/v\n\ngo 1.26\n\nrequire example.invalid/dep v1.0.0\n",
		"main.go":            "package main\n\nimport \"example.invalid/dep\"\n\nfunc main() { dep.F() }\n",
		"vendor/modules.txt": "# example.invalid/dep v1.0.0\n## explicit\nexample.invalid/dep\n", "vendor/example.invalid/dep/dep.go": "package dep\n\nfunc F() {}\n",
	})
	if files, err = tc.Sources(context.Background(), root, ".", nil, "amd64"); err != nil {
		t.Fatal(err)
	}
	if len(files) != 4 || files["vendor/modules.txt"] == "" || files["vendor/example.invalid/dep/dep.go"] == "" {
		t.Errorf("vendor: %v", files)
	}
	build(t, tc, Job{Dir: root, Package: ".", Files: files})
}

func TestSourcesRefuses(t *testing.T) {
	tc := toolchain(t)
	dir := write(t, map[string]string{"go.mod": "module example.invalid/x\n\ngo 1.26\n", "lib/lib.go": "package lib\n", "bad/bad.go": "package main\n\nimport \"example.invalid/x/nowhere\"\n"})
	for pkg, want := range map[string]string{"./lib": "want a main package", "./gone": "is not a directory", "./bad": "nowhere"} {
		if _, err := tc.Sources(context.Background(), dir, pkg, nil, "amd64"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", pkg, err, want)
		}
	}
	if _, err := tc.Sources(context.Background(), dir, "./lib", nil, "mips"); err == nil {
		t.Error("mips is accepted")
	}
}

// TestSameBytes compiles one program in several places, with other caches,
// home directories, umasks of files and a host that is set up to interfere.
func TestSameBytes(t *testing.T) {
	tc := toolchain(t)
	for _, arch := range []string{"amd64", "arm64"} {
		dir := filepath.Join(write(t, program), "recipe")
		want := sum(t, build(t, tc, Job{Dir: dir, Package: "./hello", Arch: arch}))

		other := filepath.Join(write(t, program), "recipe")
		staged := build(t, tc, Job{Dir: other, Package: "./hello", Files: sources(t, tc, other), Arch: arch})
		if got := sum(t, staged); got != want {
			t.Errorf("%s: staged in another directory: %s, want %s", arch, got, want)
		}
		hostile := map[string]string{
			"GOFLAGS": "-tags=special", "GOAMD64": "v3", "GOARM64": "v9.0", "CGO_ENABLED": "1", "GODEBUG": "panicnil=1", "GOEXPERIMENT": "greenteagc",
			"HOME":   write(t, map[string]string{".config/go/env": "GOFLAGS=-tags=special\nGOFIPS140=latest\nGOAMD64=v3\n"}),
			"TMPDIR": t.TempDir(), "USER": "other", "TZ": "Asia/Kathmandu", "GOOS": "windows", "GO111MODULE": "off",
		}
		for k, v := range hostile {
			t.Setenv(k, v)
		}
		again := build(t, tc, Job{Dir: dir, Package: "./hello", Arch: arch})
		if got := sum(t, again); got != want {
			t.Errorf("%s: with a hostile environment: %s, want %s", arch, got, want)
		}
		for k := range hostile {
			os.Unsetenv(k)
		}
	}
}

func TestFreshBuildCache(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the runtime anew")
	}
	tc := toolchain(t)
	dir := filepath.Join(write(t, program), "recipe")
	want := sum(t, build(t, tc, Job{Dir: dir, Package: "./hello"}))
	tc.BuildCache = t.TempDir()
	if got := sum(t, build(t, tc, Job{Dir: dir, Package: "./hello"})); got != want {
		t.Errorf("with an empty build cache: %s, want %s", got, want)
	}
}

func TestProgramRuns(t *testing.T) {
	tc := toolchain(t)
	dir := filepath.Join(write(t, program), "recipe")
	out := build(t, tc, Job{Dir: dir, Package: "./hello", Files: sources(t, tc, dir), Tags: []string{"special"}, LDFlags: "-X example.invalid/hello/sub.Name=flag"})
	if got := runProgram(t, out); got != "embedded dep flag true\n" {
		t.Errorf("program says %q", got)
	}
	info, err := exec.Command(tc.Go, "version", "-m", out).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CGO_ENABLED=0", "GOAMD64=v1", "-trimpath=true"} {
		if !strings.Contains(string(info), want) {
			t.Errorf("build info has no %s:\n%s", want, info)
		}
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), dir) || strings.Contains(string(info), "vcs.") {
		t.Error("the program tells where it was built")
	}
}

func TestBuildRefuses(t *testing.T) {
	tc := toolchain(t)
	dir := filepath.Join(write(t, program), "recipe")
	files := sources(t, tc, dir)
	out := filepath.Join(t.TempDir(), "out")
	job := Job{Dir: dir, Package: "./hello", Files: files, Arch: "amd64", Output: out}

	writeInto(t, dir, map[string]string{"hello/data/text": "edited"})
	if err := tc.Build(context.Background(), job); err == nil || !strings.Contains(err.Error(), "data/text changed") {
		t.Errorf("changed source: %v", err)
	}
	writeInto(t, dir, map[string]string{"hello/data/text": "embedded", "hello/main.go": "package main\n\nfunc main() { nothing() }\n"})
	if err := tc.Build(context.Background(), Job{Dir: dir, Package: "./hello", Arch: "amd64", Output: out}); err == nil || !strings.Contains(err.Error(), "undefined: nothing") {
		t.Errorf("broken source: %v", err)
	}
	for _, bad := range []Job{{Dir: dir, Package: "./hello", Arch: "386", Output: out}, {Package: "x@v1", Arch: "amd64", Output: out}, {Dir: dir, Package: "./hello", Arch: "amd64", Output: out, Files: map[string]string{"/etc/passwd": ""}}} {
		if err := tc.Build(context.Background(), bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	writeInto(t, dir, map[string]string{"hello/main.go": program["recipe/hello/main.go"]})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tc.Build(ctx, job); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Dir(out) + "/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnlisted(t *testing.T) {
	tc := toolchain(t)
	dir := filepath.Join(write(t, program), "recipe")
	files := sources(t, tc, dir)
	if extra, err := Unlisted(dir, files); err != nil || len(extra) > 0 {
		t.Errorf("unlisted %v, %v", extra, err)
	}
	writeInto(t, dir, map[string]string{"hello/sub/new.go": "package sub\n", "hello/sub/new_test.go": "package sub\n", "hello/sub/_x.go": ""})
	if extra, err := Unlisted(dir, files); err != nil || cmp.Diff([]string{"hello/sub/new.go"}, extra) != "" {
		t.Errorf("unlisted %v, %v", extra, err)
	}
}

func TestFindWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Find(); !errors.Is(err, ErrNoGo) || !strings.Contains(err.Error(), "no go command in PATH") {
		t.Errorf("error %v", err)
	}
}

func TestVersion(t *testing.T) {
	v, err := toolchain(t).Version(context.Background())
	if err != nil || !regexp.MustCompile(`^go1\.\d+`).MatchString(v) {
		t.Errorf("version %q, %v", v, err)
	}
	for v, want := range map[string]string{"go1.26.8": "1.26", "go1.26": "1.26", "go1.27rc1": "1.27", "go1.27beta2": "1.27"} {
		if got := language(v); got != want {
			t.Errorf("language of %s is %q, want %q", v, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	base := Job{Package: "./x", Arch: "amd64", Files: map[string]string{"a": "1", "b": "2"}}
	change := map[string]func(*Job){
		"arch": func(j *Job) { j.Arch = "arm64" }, "tags": func(j *Job) { j.Tags = []string{"t"} }, "ldflags": func(j *Job) { j.LDFlags = "-X a=b" }, "small": func(j *Job) { j.Small = true },
		"package": func(j *Job) { j.Package = "./y" }, "files": func(j *Job) { j.Files = map[string]string{"a": "1", "b": "3"} },
		"go.mod": func(j *Job) { j.GoMod = []string{"module x"} }, "go.sum": func(j *Job) { j.GoSum = []string{"module x"} },
	}
	seen := map[string]string{base.Key("go1.26.8"): "base", base.Key("go1.26.9"): "version"}
	for name, f := range change {
		j := base
		f(&j)
		k := j.Key("go1.26.8")
		if other := seen[k]; other != "" {
			t.Errorf("%s and %s share a key", name, other)
		}
		seen[k] = name
	}
	j := base
	j.Dir, j.Output = "/elsewhere", "/out"
	if j.Key("go1.26.8") != base.Key("go1.26.8") {
		t.Error("directory or output are in the key")
	}
	bb := BusyboxJob{Commands: []string{"ls", "cat"}, Arch: "amd64"}
	if swapped := (&BusyboxJob{Commands: []string{"cat", "ls"}, Arch: "amd64"}); swapped.Key("v") != bb.Key("v") || cmp.Diff([]string{"cat", "ls"}, bb.Links()) != "" {
		t.Error("the order of commands counts")
	}
}
