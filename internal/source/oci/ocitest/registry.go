package ocitest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/oracle"
)

const registryConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q}
`

// Registry starts docker-registry on a free port of the loopback interface with
// an empty storage and returns its host:port. It is stopped with the test.
func Registry(tb testing.TB) string {
	tb.Helper()
	program := oracle.Need(tb, "docker-registry", "docker-registry")
	dir := tb.TempDir()
	host := freePort(tb)
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, registryConfig, filepath.Join(dir, "storage"), host), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	await(tb, host, log.Name())
	return host
}

func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await asks until the registry answers.
func await(tb testing.TB, host, log string) {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(log)
	tb.Fatalf("docker-registry does not answer on %s: %s", host, text)
}
