// Package gobuild compiles Go programs for an image. It is the only package
// that runs another program: the Go toolchain.
//
// Every build is static and reproducible: CGO_ENABLED=0, -trimpath,
// -buildvcs=false, -ldflags "-s -w -buildid=", the lowest machine level
// (GOAMD64=v1, GOARM64=v8.0), and an environment of which nothing is the
// host's but the places of caches and proxies. So the same sources and
// toolchain version give the same bytes in any directory, for any user and
// with any build cache.
//
// There are two sides. For the lock, Modules writes the go.mod and go.sum of
// programs given as module/path@version and of u-root commands, and Sources
// lists the local files that a program is made of. For the build, Build
// compiles one program and Busybox all u-root commands into one.
//
//	tc, err := gobuild.Find()
//	files, err := tc.Sources(ctx, dir, "./hello", nil, "amd64")
//	err = tc.Build(ctx, gobuild.Job{Dir: dir, Package: "./hello", Files: files, Arch: "amd64", Output: out})
package gobuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoGo is returned by Find when there is no Go toolchain.
var ErrNoGo = errors.New("find Go toolchain: no go command in PATH; the recipe's go: and uroot: programs need Go 1.26 or newer")

// Toolchain is an installed Go toolchain and where it keeps things.
type Toolchain struct {
	Go         string // path of the go command
	ModCache   string // GOMODCACHE; empty = the host's
	BuildCache string // GOCACHE; empty = the host's
	Offline    bool   // never use the network: GOPROXY=off

	host map[string]string // what the host's go env says about caches and proxies
}

// kept are the settings of the host that a build needs but that never reach
// its bytes: go.sum decides about modules, whoever delivers them.
var kept = []string{
	"GOMODCACHE", "GOCACHE", "GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOVCS", "GOAUTH",
}

// Find looks for the go command in PATH and asks it for the host's settings.
func Find() (Toolchain, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		if p := "/usr/local/go/bin/go"; isFile(p) {
			return Toolchain{}, fmt.Errorf("%w; there is one at %s: add its directory to PATH", ErrNoGo, p)
		}
		return Toolchain{}, ErrNoGo
	}
	tc := Toolchain{Go: path, host: map[string]string{}}
	cmd := exec.Command(path, append([]string{"env", "-json"}, kept...)...)
	cmd.Dir = os.TempDir() // not in a module, whose toolchain line would count
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	out, err := output(cmd)
	if err != nil {
		return Toolchain{}, fmt.Errorf("find Go toolchain: %w", err)
	}
	if err := json.Unmarshal(out, &tc.host); err != nil {
		return Toolchain{}, fmt.Errorf("find Go toolchain: read %s env: %w", path, err)
	}
	return tc, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Version returns the toolchain's version as runtime.Version gives it: "go1.26.8".
func (tc Toolchain) Version(ctx context.Context) (string, error) {
	out, err := tc.run(ctx, os.TempDir(), nil, "env", "GOVERSION")
	if err != nil {
		return "", fmt.Errorf("ask Go for its version: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// passed are the variables of the process that reach the go command: to find
// its home, temporary files and the network.
var passed = []string{
	"PATH", "HOME", "TMPDIR", "USER", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// environ is the whole environment of the go command.
func (tc Toolchain) environ() []string {
	env := []string{
		"GOENV=off", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local", "GO111MODULE=on", "CGO_ENABLED=0",
		"GOOS=linux", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off", "LC_ALL=C",
	}
	for _, k := range passed {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	for _, k := range kept {
		if v := tc.host[k]; v != "" {
			env = append(env, k+"="+v)
		}
	}
	if tc.ModCache != "" {
		env = append(env, "GOMODCACHE="+tc.ModCache)
	}
	if tc.BuildCache != "" {
		env = append(env, "GOCACHE="+tc.BuildCache)
	}
	if tc.Offline {
		env = append(env, "GOPROXY=off")
	}
	return env
}

// run runs the go command in dir; extra overrides the environment.
func (tc Toolchain) run(ctx context.Context, dir string, extra []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, tc.Go, args...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(tc.environ(), extra, []string{"PWD=" + dir})
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := output(cmd)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return out, err
}

// output runs a command; its error is what the command wrote to stderr.
func output(cmd *exec.Cmd) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w%s", filepath.Base(cmd.Path), cmd.Args[1], err, tail(errs.String()))
	}
	return out.Bytes(), nil
}

// tail keeps the last lines of what the toolchain said; the first are mostly
// "go: downloading".
func tail(s string) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(s), "\n"), func(l string) bool {
		return strings.HasPrefix(l, "go: downloading ") || strings.TrimSpace(l) == ""
	})
	if len(lines) == 0 {
		return ""
	}
	if len(lines) > 20 {
		lines = append([]string{"..."}, lines[len(lines)-20:]...)
	}
	return "\n\t" + strings.Join(lines, "\n\t")
}

// checkArch knows the architectures that ingot builds images for.
func checkArch(arch string) error {
	if arch != "amd64" && arch != "arm64" {
		return fmt.Errorf("architecture %q: want amd64 or arm64", arch)
	}
	return nil
}
