package measure

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// evidence is what testdata/evidence serves.
type evidence struct {
	Log     []byte                    `json:"log"`
	Cmdline string                    `json:"cmdline"`
	PCRs    map[string]map[int]string `json:"pcrs"`
}

const bootLimit = 6 * time.Minute

// record starts the machine and asks for its evidence.
func record(t *testing.T, m qemu.Machine) evidence {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	m.Arch, m.TPM, m.Accel = cmp.Or(m.Arch, qemu.AMD64), true, qemu.AccelTCG
	m.Banks = []uint16{qemu.SHA1, qemu.SHA256, qemu.SHA384}
	m.Forwards = []qemu.Forward{{Guest: 8080}}
	vm, err := qemu.Start(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	var e evidence
	for {
		body, err := ask(ctx, "http://"+vm.Forward(8080))
		if err == nil {
			if err := json.Unmarshal(body, &e); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			return e
		}
		if ctx.Err() != nil {
			t.Fatalf("no evidence: %v\n%s", err, vm.Console())
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func ask(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// withUKI copies the disk of a set and puts another UKI into slot A.
func withUKI(t *testing.T, set *release.Set, uki []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.OpenFile(set.Image(), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l, err := partition.Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	p, ok := l.Part(partition.SlotA)
	if !ok {
		t.Fatal("no slot A")
	}
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(info.Size()); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(out, f, info.Size(), p); err != nil {
		t.Fatal(err)
	}
	var files tree.Tree
	for _, n := range []tree.Node{{Path: "EFI", Mode: fs.ModeDir | 0o755}, {Path: "EFI/BOOT", Mode: fs.ModeDir | 0o755},
		{Path: "EFI/BOOT/BOOTX64.EFI", Mode: 0o644, Content: tree.Bytes(uki)}} {
		if err := files.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	img, err := fat.Plan(&files, fat.Options{Size: p.Size, Serial: 1, Epoch: set.Manifest.Epoch})
	if err != nil {
		t.Fatal(err)
	}
	if err := img.Write(p.Window(out)); err != nil {
		t.Fatal(err)
	}
	return name
}

// copySparse leaves out blocks of zeros and the partition skip.
func copySparse(w io.WriterAt, r io.ReaderAt, size int64, skip partition.Part) error {
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if off >= skip.Start && off < skip.End() {
			continue
		}
		n, err := r.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			return err
		}
		zero := true
		for _, b := range buf[:n] {
			zero = zero && b == 0
		}
		if !zero {
			if _, err := w.WriteAt(buf[:n], off); err != nil {
				return err
			}
		}
	}
	return nil
}

// evidenceSets build testdata/evidence once for each boot loader.
var evidenceSets = map[string]func() (string, error){
	"firmware":     sync.OnceValues(func() (string, error) { return buildEvidence("firmware") }),
	"systemd-boot": sync.OnceValues(func() (string, error) { return buildEvidence("systemd-boot") }),
}

func buildEvidence(loader string) (string, error) {
	dir := filepath.Join(scratch, loader)
	exe, recipe := filepath.Join(dir, "ingot"), filepath.Join(dir, "recipe", "appliance.yaml")
	if err := os.CopyFS(filepath.Dir(recipe), os.DirFS("testdata/evidence")); err != nil {
		return "", err
	}
	text, err := os.ReadFile(recipe)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(recipe, fmt.Appendf(text, "\nboot: {loader: %s}\n", loader), 0o644); err != nil {
		return "", err
	}
	var out []byte
	for _, args := range [][]string{
		{"go", "build", "-o", exe, "github.com/ingot-os/ingot/cmd/ingot"},
		{exe, "lock", "-f", recipe}, {exe, "build", "-f", recipe, "-o", filepath.Join(dir, "out")},
	} {
		var stderr bytes.Buffer
		c := exec.Command(args[0], args[1:]...)
		c.Stderr = &stderr
		if out, err = c.Output(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
		}
	}
	return strings.TrimSpace(string(out)), nil
}

// scratch is where everything of this test process is.
var scratch string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ingot-measure-")
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// openSet gives the image set that serves evidence. A test is skipped where no
// machine can be booted.
func openSet(t *testing.T) (*release.Set, *appliance.Spec) { return openLoader(t, "firmware") }

func openLoader(t *testing.T, loader string) (*release.Set, *appliance.Spec) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	for _, m := range qemu.Tools("amd64") {
		absent(t, m.Name, m.Package)
	}
	dir, err := evidenceSets[loader]()
	if err != nil {
		t.Fatal(err)
	}
	set, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	return set, spec
}

func absent(t *testing.T, name, pkg string) {
	t.Helper()
	if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
		t.Fatalf("%s is not installed (Debian package %s)", name, pkg)
	}
	t.Skipf("%s is not installed (Debian package %s)", name, pkg)
}

// need is a file of a Debian package.
func need(t *testing.T, pkg, file string) string {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		absent(t, file, pkg)
	}
	return file
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compare holds a prediction against a boot: every register and every event of
// it, in all banks.
func compare(t *testing.T, p *predict.Prediction, e evidence) {
	t.Helper()
	l, err := eventlog.Parse(e.Log)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for bank, values := range p.PCRs {
		s, err := l.Replay(bank)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range values {
			value, err := hex.DecodeString(e.PCRs[bank.String()][i])
			if err != nil {
				t.Fatal(err)
			}
			if v := s.Compare(i, value); !v.Explained() {
				t.Errorf("%s PCR %d: the log is %s", bank, i, v)
			}
			if !bytes.Equal(value, want) {
				t.Errorf("%s PCR %d: predicted %s, the TPM has %x", bank, i, want, value)
				events(t, l, p, bank, i)
			}
			n++
		}
	}
	if len(p.Open) == 0 && n != 6*len(p.PCRs) || n == 0 {
		t.Errorf("%d registers were compared", n)
	}
	if strings.TrimSpace(p.Cmdline) != e.Cmdline {
		t.Errorf("predicted the command line %q, the kernel has %q", p.Cmdline, e.Cmdline)
	}
}

// events prints both sequences of one register.
func events(t *testing.T, l *eventlog.Log, p *predict.Prediction, bank pcr.Bank, register int) {
	t.Helper()
	for _, e := range p.Events {
		if e.PCR == register {
			t.Logf("predicted %.16s %s", e.Digests[bank], e.Name)
		}
	}
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == uint32(register) && e.Extends() {
			t.Logf("logged    %.16s %s %.60q", e.Digest(bank), e.Type, e.Text())
		}
	}
}

var banks = []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384}

func must(t *testing.T, path string, o Options) *predict.Prediction {
	t.Helper()
	o.Banks = banks
	p, err := Of(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
