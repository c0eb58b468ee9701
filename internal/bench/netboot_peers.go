package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// debianProgram finds a program, or unpacks its Debian package beside the other things
// of peers. It is not installed: the two TFTP servers exclude each other, and all of them would
// begin to listen.
func debianProgram(ctx context.Context, l *lab, pkg, path string) (string, error) {
	for _, p := range []string{"/" + path, filepath.Join(l.peerDir, pkg, path)} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	dir := filepath.Join(l.peerDir, pkg)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	get := exec.CommandContext(ctx, "apt-get", "download", "-q", pkg)
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("download %s: %w: %s", pkg, err, lastLines(string(out), 3))
	}
	debs, _ := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	if len(debs) != 1 {
		return "", fmt.Errorf("download %s: %d packages came", pkg, len(debs))
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", debs[0], dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w: %s", pkg, err, lastLines(string(out), 3))
	}
	return filepath.Join(dir, path), nil
}
