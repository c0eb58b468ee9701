package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// host names the machine, so that numbers can be read by others.
type host struct {
	cpu, kernel, system string
	cores               int
	memory              int64 // bytes
	date                time.Time
	loads               [2]string // averages over one minute, before and after
	versions            string    // of programs that numbers depend on
}

func describeHost(ctx context.Context) host {
	h := host{cores: runtime.NumCPU(), date: time.Now(), cpu: field("/proc/cpuinfo", "model name", ":"), system: field("/etc/os-release", "PRETTY_NAME", "=")}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.kernel = string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.memory = int64(info.Totalram) * int64(info.Unit)
	}
	h.loads[0] = load()
	h.versions = strings.Join(versions(ctx), ", ")
	return h
}

// field is the value of the first line "key separator value" of a file.
func field(path, key, separator string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), separator); ok && strings.TrimSpace(k) == key {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return "unknown"
}

func load() string {
	b, _ := os.ReadFile("/proc/loadavg") // empty where there is none
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// versions asks the programs that the rows depend on; those that are missing
// are left out, their rows say so.
func versions(ctx context.Context) []string {
	out := []string{runtime.Version()}
	for _, q := range [][]string{
		{"qemu-system-x86_64", "--version"}, {"mksquashfs", "-version"}, {"veritysetup", "--version"},
		{"mcopy", "--version"}, {"cpio", "--version"}, {"dd", "--version"},
	} {
		b, err := exec.CommandContext(ctx, q[0], q[1:]...).Output()
		if line, _, _ := strings.Cut(string(b), "\n"); err == nil || line != "" {
			out = append(out, version(q[0], line))
		}
	}
	return out
}

// version is the program's name and the first word of a line that begins with
// a digit: "mksquashfs 4.5.1".
func version(name, line string) string {
	for _, w := range strings.Fields(line) {
		if w[0] >= '0' && w[0] <= '9' {
			return name + " " + strings.TrimRight(w, ",")
		}
	}
	return name
}

func (h *host) finish() { h.loads[1] = load() }

func (h host) line() string {
	return fmt.Sprintf("%s, %d cores, %d GiB, Linux %s, %s, %s. Load average %s before and %s after. %s.",
		h.cpu, h.cores, (h.memory+1<<29)>>30, h.kernel, h.system, h.date.UTC().Format("2006-01-02"), h.loads[0], h.loads[1], h.versions)
}
