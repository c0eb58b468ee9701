package gobuild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeModules has a u-root of three small commands that have what rewriting is hard
// about: variables initialised out of order, init functions, embedded files,
// internal packages, build constraints, one name in two folders.
var fakeModules = map[string]map[string]string{
	urootPath + " v0.16.0": {
		"go.mod":                   "module github.com/u-root/u-root\n\ngo 1.20\n\nrequire example.invalid/dep v1.1.0\n",
		"cmds/core/one/one.go":     "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\n\t\"example.invalid/dep\"\n)\n\nvar a = b + 1\nvar b = dep.One()\nvar m, n = 1, 2\nvar fs []func() int\n\nfunc init() { b += 10 }\nfunc init() { b += 100 }\n\nfunc main() {\n\tfor i := 0; i < 2; i++ {\n\t\tfs = append(fs, func() int { return i })\n\t}\n\tfmt.Println(\"one\", a, b, m, n, fs[0](), os.Args[1:])\n}\n",
		"cmds/core/two/two.go":     "package main\n\nimport (\n\t_ \"embed\"\n\t\"fmt\"\n\n\t\"github.com/u-root/u-root/cmds/core/two/internal/deep\"\n)\n\n//go:embed text/t.txt\nvar text string\n\nfunc init() { fmt.Println(\"two starts\") }\n\nfunc main() { fmt.Println(\"two\", text, deep.Deep) }\n",
		"cmds/core/two/text/t.txt": "embedded", "cmds/core/two/internal/deep/d.go": "package deep\n\nconst Deep = \"deep\"\n",
		"cmds/exp/two/two.go": "package main\n\nfunc main() {}\n", "cmds/exp/three/three.go": "package main\n\nfunc main() { println(\"three\") }\n",
		"cmds/core/intel/intel_amd64.go": "package main\n\nfunc main() {}\n", "cmds/core/lib/lib.go": "package lib\n",
	},
	"example.invalid/dep v1.0.0": {"go.mod": "module example.invalid/dep\n\ngo 1.20\n", "dep.go": "package dep\n\nfunc One() int { return 0 }\n"},
	"example.invalid/dep v1.1.0": {"go.mod": "module example.invalid/dep\n\ngo 1.22\n", "dep.go": "package dep\n\nfunc One() int {\n\tvar f []func() int\n\tfor i := 1; i < 3; i++ {\n\t\tf = append(f, func() int { return i })\n\t}\n\treturn f[0]()\n}\n", "cmd/dep/main.go": "package main\n\nimport \"example.invalid/dep\"\n\nfunc main() { println(\"dep\", dep.One()) }\n"},
	"example.invalid/old v1.0.0": {"go.mod": "module example.invalid/old\n\ngo 1.20\n\nrequire example.invalid/dep v1.0.0\n", "cmd/old/main.go": "package main\n\nimport \"example.invalid/dep\"\n\nfunc main() { println(\"old\", dep.One()) }\n"},
}

func TestModulesAndPrograms(t *testing.T) {
	tc := proxy(t, toolchain(t), fakeModules)
	ctx := context.Background()
	programs := []string{"example.invalid/old/cmd/old@v1.0.0", "example.invalid/dep/cmd/dep@v1.1.0"}
	goMod, goSum, err := tc.Modules(ctx, programs, []string{"one"})
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := tc.Modules(ctx, programs, []string{"one"})
	if err != nil || strings.Join(again, "\n") != strings.Join(goMod, "\n") {
		t.Errorf("a second time: %v\n%s", err, strings.Join(again, "\n"))
	}
	tc.Offline = true // everything is in the module cache now
	for _, arch := range []string{"amd64", "arm64"} {
		out := build(t, tc, Job{Package: programs[0], GoMod: goMod, GoSum: goSum, Arch: arch})
		if arch == "amd64" {
			if got := runProgram(t, out); got != "old 1\n" {
				t.Errorf("old says %q: the graph chooses dep v1.1.0", got)
			}
		}
	}
	tc.ModCache = moduleCache(t)
	if err := tc.Build(ctx, Job{Package: programs[0], GoMod: goMod, GoSum: goSum, Arch: "amd64", Output: filepath.Join(t.TempDir(), "x")}); err == nil || !strings.Contains(err.Error(), "GOPROXY") {
		t.Errorf("offline with an empty cache: %v", err)
	}
}

func TestModulesRefuses(t *testing.T) {
	tc := proxy(t, toolchain(t), fakeModules)
	for _, tt := range []struct{ programs, uroot, want string }{
		{"example.invalid/old/cmd/old", "", "want module/path@version"},
		{"example.invalid/old/cmd/old@v9.0.0", "", "v9.0.0"},
		{"", "nope", `u-root command "nope": not in github.com/u-root/u-root@v0.16.0`},
		{"", "../../x", "not a name"},
	} {
		_, _, err := tc.Modules(context.Background(), strings.Fields(tt.programs), strings.Fields(tt.uroot))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: error %v, want %q", tt.programs, tt.uroot, err, tt.want)
		}
	}
	mod := []string{"module m", "go 1.26", "require example.invalid/dep v1.1.0"}
	if err := checkVersions(mod, []string{"example.invalid/dep/cmd/dep@v1.0.0"}, false); err == nil || !strings.Contains(err.Error(), "needs v1.1.0") {
		t.Errorf("raised version: %v", err)
	}
	if err := checkVersions(mod, []string{"example.invalid/dep/cmd/dep@v1.1.0", "example.invalid/dep/x@latest"}, false); err != nil {
		t.Error(err)
	}
}

func TestCommandPaths(t *testing.T) {
	root := write(t, fakeModules[urootPath+" v0.16.0"])
	for name, want := range map[string]string{
		"two": "cmds/core/two", "exp/two": "cmds/exp/two", "cmds/exp/two": "cmds/exp/two", "three": "cmds/exp/three", urootPath + "/cmds/core/one": "cmds/core/one",
	} {
		if got, err := commandPath(root, name); err != nil || got != urootPath+"/"+want {
			t.Errorf("%s is %s (%v), want %s", name, got, err, want)
		}
	}
}

func TestBusybox(t *testing.T) {
	tc := proxy(t, toolchain(t), fakeModules)
	ctx := context.Background()
	job := BusyboxJob{Commands: []string{"two", "one", "exp/three"}, Arch: "amd64", Output: filepath.Join(t.TempDir(), "bb")}
	var err error
	if job.GoMod, job.GoSum, err = tc.Modules(ctx, nil, job.Commands); err != nil {
		t.Fatal(err)
	}
	if err := tc.Busybox(ctx, job); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(job.Output)
	for link, target := range map[string]string{"one": "bb", "sh": "two"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("bb", filepath.Join(dir, "two")); err != nil {
		t.Fatal(err)
	}
	// u-root says go 1.20, whose loop variable is shared, so fs[0]() is 2; the
	// dependency says go 1.22 and needs a variable per turn for its 1.
	for argv, want := range map[string]string{
		"one x y": "one 2 111 1 2 2 [x y]\n", "bb one x": "one 2 111 1 2 2 [x]\n", "sh": "two starts\ntwo embedded deep\n", "bb three": "three\n",
	} {
		f := strings.Fields(argv)
		if got := runProgram(t, filepath.Join(dir, f[0]), f[1:]...); got != want {
			t.Errorf("%s says %q, want %q", argv, got, want)
		}
	}
	if out, err := exec.Command(job.Output, "four").CombinedOutput(); err == nil || !strings.Contains(string(out), "four: not in this busybox") {
		t.Errorf("unknown command: %v %s", err, out)
	}
	info, err := exec.Command(tc.Go, "version", "-m", job.Output).Output()
	if err != nil || !strings.Contains(string(info), "github.com/u-root/u-root\tv0.16.0") || strings.Contains(string(info), "DefaultGODEBUG") {
		t.Errorf("build info: %v\n%s", err, info)
	}
	busyboxAgain(t, tc, job)
}

// busyboxAgain builds the same in other places and in another order.
func busyboxAgain(t *testing.T, tc Toolchain, job BusyboxJob) {
	want := sum(t, job.Output)
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("GOFLAGS", "-tags=none")
	job.Commands = []string{"one", "exp/three", "two"}
	job.Output = filepath.Join(t.TempDir(), "again")
	if err := tc.Busybox(context.Background(), job); err != nil {
		t.Fatal(err)
	}
	if got := sum(t, job.Output); got != want {
		t.Errorf("a second build: %s, want %s", got, want)
	}
	job.Arch = "arm64"
	if err := tc.Busybox(context.Background(), job); err != nil {
		t.Errorf("arm64: %v", err)
	}
}

func TestBusyboxRefuses(t *testing.T) {
	tc := proxy(t, toolchain(t), fakeModules)
	ctx := context.Background()
	goMod, goSum, err := tc.Modules(ctx, nil, []string{"one", "two", "exp/two", "intel", "lib"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ commands, arch, want string }{
		{"one three", "amd64", `command "three" is not locked`},
		{"two exp/two", "amd64", "have one name"},
		{"intel", "arm64", "constraints"},
		{"lib", "amd64", "want a main package"},
		{"one", "sparc", "want amd64 or arm64"},
	} {
		err := tc.Busybox(ctx, BusyboxJob{Commands: strings.Fields(tt.commands), GoMod: goMod, GoSum: goSum, Arch: tt.arch, Output: filepath.Join(t.TempDir(), "bb")})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s on %s: error %v, want %q", tt.commands, tt.arch, err, tt.want)
		}
	}
}

// BenchmarkBusybox builds ten real u-root commands; it needs the module proxy
// or a filled cache. Measured on 2 shared cores, Go 1.26.8: 12.08 MB; 44 s wall
// and 55 s CPU with an empty build cache, 3.2 s wall and 2.5 s CPU with a filled
// one (type-checking with go/packages and a GOPATH build took 7.2 s CPU).
func BenchmarkBusybox(b *testing.B) {
	tc := toolchain(b)
	ctx := context.Background()
	job := BusyboxJob{Commands: strings.Fields("init gosh ls cat dhclient wget ip mount kexec shutdown"), Arch: "amd64", Output: filepath.Join(b.TempDir(), "bb")}
	var err error
	if job.GoMod, job.GoSum, err = tc.Modules(ctx, nil, job.Commands); err != nil {
		b.Skip(err)
	}
	for _, cold := range []bool{true, false} {
		b.Run(fmt.Sprintf("cold=%v", cold), func(b *testing.B) {
			for b.Loop() {
				if cold {
					tc.BuildCache = b.TempDir()
				}
				start := time.Now()
				if err := tc.Busybox(ctx, job); err != nil {
					b.Fatal(err)
				}
				info, err := os.Stat(job.Output)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(info.Size())/1e6, "MB")
				b.ReportMetric(time.Since(start).Seconds(), "s/build")
			}
		})
	}
}
