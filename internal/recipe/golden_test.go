package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// words reads a list of names, one or more in a line, # begins a comment.
func words(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.Fields(line)...)
		}
	}
	return out
}

// kernelFacts reads the lists of a real kernel package in testdata/kernel.
func kernelFacts(t testing.TB, name, pkg string) *KernelFacts {
	k := &KernelFacts{Package: pkg, Version: "6.12.107+deb13-" + name, Image: 11_708_352, Modules: map[string]string{}, Builtin: map[string]bool{}, Config: map[string]string{}}
	for _, m := range words(t, "testdata/kernel/"+name+".modules") {
		k.Modules[m] = "kernel/" + m + ".ko"
	}
	for _, m := range words(t, "testdata/kernel/"+name+".builtin") {
		k.Builtin[m] = true
	}
	for _, o := range kernelOptions {
		k.Config[o.option] = "y"
	}
	k.Config["CONFIG_RD_ZSTD"] = "y"
	return k
}

// factsNamed are the situations that the corpus speaks of.
func factsNamed(t testing.TB, name string) Facts {
	cloud := kernelFacts(t, "cloud-amd64", "linux-image-6.12.107+deb13-cloud-amd64")
	f := Facts{Kernel: cloud, Stub: 130_000, Init: 9_000_000}
	switch name {
	case "":
		return Facts{}
	case "cloud":
	case "partial":
		f.Sizes = map[string]int64{"modules": 15_000_000}
	case "metal":
		f.Kernel = kernelFacts(t, "amd64", "linux-image-6.12.107+deb13-amd64")
		f.Firmware = map[string][]string{"firmware-realtek": {"rtl_nic/rtl8168g-2.fw"}}
	case "built":
		f.UKI, f.RootSize = 36_000_000, 300<<20
	case "late":
		f.Now = time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)
	case "huge":
		f.UKI = 3 << 30
	default:
		t.Fatalf("no facts named %q", name)
	}
	return f
}

// factsOf reads the first line of a corpus file: "# facts: cloud -erofs" is
// the cloud kernel without that module or option.
func factsOf(t testing.TB, data []byte) Facts {
	line, _, _ := strings.Cut(string(data), "\n")
	text, ok := strings.CutPrefix(line, "# facts: ")
	if !ok {
		return Facts{}
	}
	fields := strings.Fields(text)
	f := factsNamed(t, fields[0])
	for _, minus := range fields[1:] {
		name := strings.TrimPrefix(minus, "-")
		delete(f.Kernel.Modules, name)
		delete(f.Kernel.Builtin, name)
		delete(f.Kernel.Config, name)
	}
	return f
}

func corpus(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recipes in testdata/%s: %v", dir, err)
	}
	return files
}
