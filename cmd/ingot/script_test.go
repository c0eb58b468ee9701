package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ingot-os/ingot/internal/oracle"
)

// TestScript runs the program as people do: one script or more for each verb,
// every exit code, all messages. Scripts are offline; their cache holds what
// building examples/hello needs.
//
// Beside the usual commands there are: exits CODE ARGS (runs ingot), json PATH
// VALUE (looks into standard output), replace FILE OLD NEW, nothing DIR (is not
// there, or empty with hidden files counted), hello DIR (a copy of the example
// with a small disk and its lock), product KIND DIR (a finished image set), flipped SET DIR SUFFIX OFFSET (a copy
// of a set with one bit of one file changed), release SET VERSION KEYS|- (a small
// image set), machine TRUST [CAUSE] (a machine in this process that takes
// updates; sets ADDR and KEY), diskless (one that runs from memory; sets ADDR), newkey (KEY after a reset); conditions [tool:NAME].
func TestScript(t *testing.T) {
	f := warm(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("INGOT_CACHE", f.clone(t))
			e.Setenv("INGOT_OFFLINE", "1")
			e.Setenv("PINS", filepath.Join(f.hello, "appliance.lock"))
			for _, k := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GOCOVERDIR"} {
				if v := goEnv(k); v != "" {
					e.Setenv(k, v)
				}
			}
			return nil
		},
		Condition: hasTool,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "json": jsonHas, "replace": replaceText, "nothing": nothingIn,
			"hello": func(ts *testscript.TestScript, _ bool, args []string) {
				recipe, _ := f.built(t, "plain")
				ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(recipe)))
			},
			"product": func(ts *testscript.TestScript, _ bool, args []string) {
				_, set := f.built(t, args[0])
				linkSet(t, set, ts.MkAbs(args[1]))
			},
			"flipped": flipped,
			"release": writeRelease, "machine": startMachine, "diskless": startDiskless, "newkey": newKey,
			"journal": journal, "variables": variables, "atmost": atMost, "flip": flip, "slotof": slotOf, "applied": applied, "begins": begins,
		},
	})
}

func flipped(ts *testscript.TestScript, _ bool, args []string) {
	from, to := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(to, 0o755))
	list, err := os.ReadDir(from)
	ts.Check(err)
	off, err := strconv.ParseInt(args[3], 10, 64)
	ts.Check(err)
	for _, e := range list {
		path := filepath.Join(to, e.Name())
		ts.Check(copyFile(filepath.Join(from, e.Name()), path, 0o644))
		if !strings.HasSuffix(path, args[2]) {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		ts.Check(err)
		defer f.Close()
		b := make([]byte, 1)
		_, err = f.ReadAt(b, off)
		ts.Check(err)
		b[0] ^= 1
		_, err = f.WriteAt(b, off)
		ts.Check(err)
	}
}

// goEnv is a setting of the Go toolchain, whose caches the scripts share.
func goEnv(key string) string {
	if v := os.Getenv(key); v != "" || key == "GOCOVERDIR" {
		return v
	}
	out, err := exec.Command("go", "env", key).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exited *exec.ExitError
	if err := ts.Exec("ingot", args[1:]...); errors.As(err, &exited) {
		code = exited.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("ingot %s: exit code %d, want %d", strings.Join(args[1:], " "), code, want)
	}
}

// jsonHas compares a value of the JSON on standard output, found by a path such
// as files.0.name, or the number of elements by one that ends in len.
func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH VALUE")
	}
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("standard output is no JSON: %v", err)
	}
	for _, k := range strings.Split(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[k]
		case []any:
			i, err := strconv.Atoi(k)
			switch {
			case k == "len":
				v = len(x)
			case err == nil && i < len(x):
				v = x[i]
			default:
				ts.Fatalf("no %s in a list of %d", k, len(x))
			}
		default:
			ts.Fatalf("no %s in %v", k, v)
		}
	}
	if got := fmt.Sprint(v); (got == args[1]) == neg {
		ts.Fatalf("%s is %q, want (%v) %q", args[0], got, !neg, args[1])
	}
}

func replaceText(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	text := ts.ReadFile(path)
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("no %q in %s", args[1], args[0])
	}
	ts.Check(os.Remove(path)) // a product is a hard link to what other tests use
	ts.Check(os.WriteFile(path, []byte(strings.Replace(text, args[1], args[2], 1)), 0o644))
}

func nothingIn(ts *testscript.TestScript, _ bool, args []string) {
	for _, dir := range args {
		list, err := os.ReadDir(ts.MkAbs(dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if len(list) > 0 {
			ts.Fatalf("%s holds %v", dir, list)
		}
	}
}

// TestReadme compares the commands of the README with the script that runs
// them, so neither changes alone. Booting is left to the tests that may.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/readme.txtar")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "## Your own appliance")
	blocks := strings.Split(rest, "```sh\n")[1:]
	if !ok || len(blocks) != 2 {
		t.Fatalf("README.md has %d shell blocks from its heading Your own appliance on, want 2", len(blocks))
	}
	at := 0
	for _, b := range blocks {
		block, _, _ := strings.Cut(b, "```")
		for _, c := range commands(block) {
			i := strings.Index(string(script)[at:], c)
			if i < 0 {
				t.Errorf("README says %q, which testdata/script/readme.txtar does not run there", c)
				continue
			}
			at += i + len(c)
		}
	}
	_, yaml, _ := strings.Cut(rest, "```yaml\n")
	yaml, _, _ = strings.Cut(yaml, "```")
	if !strings.Contains(string(script), yaml) {
		t.Errorf("testdata/script/readme.txtar does not have the recipe of README.md:\n%s", yaml)
	}
}

// commands are the lines of a shell block that the script runs too: all but
// those that boot a machine or need a database.
func commands(block string) (list []string) {
	for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
		line, _, _ = strings.Cut(line, "#")
		for _, c := range strings.Split(line, "&&") {
			c = strings.TrimSpace(c)
			verb, _, _ := strings.Cut(strings.TrimPrefix(c, "ingot "), " ")
			if c == "" || verb == "export" || verb == "test" || verb == "run" || verb == "scan" {
				continue
			}
			list = append(list, strings.Replace(c, "/dev/sdX", "disk.img", 1))
		}
	}
	return list
}

// hasTool is the condition [tool:NAME]: the program is installed. Where tools are
// required its absence is an error.
func hasTool(cond string) (bool, error) {
	name, ok := strings.CutPrefix(cond, "tool:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	_, err := exec.LookPath(name)
	if err != nil && oracle.Required() {
		return false, err
	}
	return err == nil, nil
}
