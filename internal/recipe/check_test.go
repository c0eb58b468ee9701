package recipe

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func examine(t *testing.T, text string, facts Facts) Report {
	t.Helper()
	return Examine(mustParse(t, head+text), facts)
}

// TestWarnings are recipes that work, but hardly as meant.
func TestWarnings(t *testing.T) {
	for _, tt := range []struct{ name, text, facts, want string }{
		{"nothing to do", "", "", "it would boot and do nothing"},
		{"slow check", "go: [{package: example.com/a/a@v1.0.0}]\nservices: [{name: a, command: /bin/a, health: {tcp: 8080, interval: 1s, timeout: 3s}}]\n", "", "one check may take 3s, longer than the 1s between two"},
		{"config not there", "go: [{package: example.com/a/a@v1.0.0}]\nservices: [{name: a, command: /bin/a, args: [-c=/etc/a.conf]}]\n", "", "given /etc/a.conf, which is not in the image"},
		{"port nobody mentions", "go: [{package: example.com/a/a@v1.0.0}]\nservices: [{name: a, command: /bin/a}]\nsmoke: [{name: s, http: {port: 8080}}]\n", "", "asks port 8080, which no service mentions"},
		{"serial port of arm64", "arch: arm64\ncmdline: [console=ttyS0]\n", "", "many arm64 machines have no such serial port"},
		{"boot entry", "boot: {entries: [{title: Tool, efi: /EFI/tool.efi}]}\n", "", "which ingot does not put on the ESP"},
		{"words twice", "cmdline: [ingot.debug=1, ingot.debug=2]\n", "", "cmdline has ingot.debug more than once"},
		{"TFTP", "disk: {esp: 1G, slot: 1G}\n", "large", "cannot load more than 91 MiB over TFTP"},
	} {
		facts := Facts{}
		if tt.facts == "large" {
			facts.UKI = 100 << 20
		}
		rep := examine(t, tt.text, facts)
		if len(rep.Errors) > 0 {
			t.Errorf("%s: errors:\n%v", tt.name, rep.Errors)
		}
		if !strings.Contains(rep.Warnings.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, rep.Warnings, tt.want)
		}
	}
}

// TestSkippedRulesAreListed: what could not be checked is said, never passed over.
func TestSkippedRulesAreListed(t *testing.T) {
	text := "root: {oci: registry.example.org/library/alpine:3.20}\nmodules: [wireguard]\nnetwork: [{match: {driver: igb}, dhcp: true}]\n" +
		"kernel: {package: linux-image-amd64}\nfirmware: [{package: firmware-realtek, files: [x]}]\nservices: [{name: a, command: /usr/bin/a}]\n"
	var got []string
	for _, s := range examine(t, text, Facts{}).Skipped {
		got = append(got, s.String())
	}
	for _, want := range []string{
		"modules are in the kernel package: the kernel package is not in the cache yet",
		"whether igb is built into the kernel",
		"service a finds /usr/bin/a: the root payload has not been read yet",
		"firmware files are in firmware-realtek",
		"the root payload fits into disk.root",
		"size of the EFI stub, ingot-init, the kernel, the modules",
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("not listed as skipped: %s\ngot:\n%s", want, strings.Join(got, "\n"))
		}
	}
	if rep := Examine(mustParse(t, head), Facts{Kernel: kernelFacts(t, "cloud-amd64", "k"), UKI: 1}); len(rep.Skipped) != 0 {
		t.Errorf("with all facts still skipped: %v", rep.Skipped)
	}
}

func TestRootPayloadFromFacts(t *testing.T) {
	facts := Facts{RootFiles: map[string]fs.FileMode{"usr/bin/a": 0o755, "srv": fs.ModeDir | 0o755}}
	for command, bad := range map[string]bool{"/usr/bin/a": false, "/usr/bin/b": true, "/srv": true} {
		rep := examine(t, "root: {oci: registry.example.org/library/alpine:3.20}\nservices: [{name: a, command: "+command+"}]\n", facts)
		if got := len(rep.Errors) > 0; got != bad {
			t.Errorf("%s: %v", command, rep.Errors)
		}
	}
}

// TestContentsFollowLinks resolves paths as the machine will.
func TestContentsFollowLinks(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("tree/bin/tool", "#!/bin/gosh\n", 0o755)
	write("tree/bin/data", "x", 0o644)
	if err := os.Symlink("bin/tool", filepath.Join(dir, "tree/link")); err != nil {
		t.Fatal(err)
	}
	r := mustParse(t, head+`
uroot: [gosh]
users: [{name: app, uid: 1000}]
files:
  - {path: /opt, source: tree, owner: app}
  - {path: /bin/a, symlink: b}
  - {path: /bin/b, symlink: /opt/link}
  - {path: /lib, symlink: /opt/bin}
  - {path: /loop1, symlink: loop2}
  - {path: /loop2, symlink: loop1}
  - {path: /broken, symlink: /nowhere/at/all}
`)
	r.Dir = dir
	c := newContents(r, Facts{})
	for p, want := range map[string]struct {
		kind entryKind
		mode fs.FileMode
	}{
		"/bin/gosh": {isProgram, 0o755}, "/opt/bin/tool": {isFile, 0o755}, "/opt/bin/data": {isFile, 0o644}, "/bin/a": {isFile, 0o755},
		"/lib/tool": {isFile, 0o755}, "/opt": {isDir, 0o755}, "/data": {isDir, 0o755}, "/loop1": {absent, 0}, "/broken": {absent, 0}, "/opt/none": {absent, 0},
	} {
		if e, _ := c.resolve(p); e.kind != want.kind || e.mode != want.mode {
			t.Errorf("%s is %+v, want %+v", p, e, want)
		}
	}
	if e, _ := c.resolve("/bin/a"); e.uid != 1000 {
		t.Errorf("/bin/a belongs to %d, want 1000", e.uid)
	}
	if _, last := c.resolve("/broken"); last != "/nowhere/at/all" {
		t.Errorf("the chain breaks at %s", last)
	}
}

// TestCheckFileReportsBothKinds: a recipe with a typing error is still checked for the rest.
func TestCheckFileReportsBothKinds(t *testing.T) {
	name := filepath.Join(t.TempDir(), "appliance.yaml")
	if err := os.WriteFile(name, []byte(head+"nmae: x\nservices: [{name: a, command: /bin/a}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, rep, err := CheckFile(name, nil)
	if err != nil || r == nil || len(rep.Errors) != 2 {
		t.Errorf("got %v, %v, want both findings", rep.Errors, err)
	}
	if _, _, err := CheckFile(name+"x", nil); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestSizeLimits stands on both sides of every limit.
func TestSizeLimits(t *testing.T) {
	const disk = "disk: {esp: 128M, slot: 128M, root: 64M}\nroot: {directory: x}\nboot: {budget: 40M}\n"
	room := int64(fatRoom(128 * MiB))
	for _, tt := range []struct {
		name      string
		uki, root int64
		want      string
	}{
		{"half of a slot", room / 2, 0, "its budget is"},
		{"more than half of a slot", room/2 + 1, 0, "no room for one twice as large"},
		{"twice does not fit on the ESP", room/2 + 1, 0, "the ESP holds it twice"},
		{"a whole slot", room, 0, "no room for one twice as large"},
		{"more than a slot", room + 1, 0, "it does not fit"},
		{"the budget", 40 << 20, 0, ""},
		{"over the budget", 40<<20 + 1, 0, "its budget is 40 MiB"},
		{"2 GiB", 2 << 30, 0, "it does not fit"},
		{"over 2 GiB", 2<<30 + 1, 0, "EFI programs end at 2 GiB"},
		{"half a root partition", 1, 32 << 20, ""},
		{"over half a root partition", 1, 32<<20 + 1, "disk.root is 64 MiB, the root payload has 32.0 MiB: no room"},
		{"over a root partition", 1, 64<<20 + 1, "disk.root is 64 MiB, the root payload has 64.0 MiB: it does not fit"},
	} {
		got := examine(t, disk, Facts{UKI: tt.uki, RootSize: tt.root}).Errors
		if tt.want == "" && len(got) > 0 || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, got, tt.want)
		}
		if tt.name == "half of a slot" && len(got) != 1 {
			t.Errorf("%s: got %v, want the budget only", tt.name, got)
		}
	}
}

// TestBootFileFromParts adds up what is known before the first build.
func TestBootFileFromParts(t *testing.T) {
	k := kernelFacts(t, "cloud-amd64", "k")
	facts := Facts{Kernel: k, Stub: 1 << 20, Init: 2 << 20, Sizes: map[string]int64{"modules": 4 << 20, "go/a": 8 << 20, "uroot": 16 << 20}}
	k.Image = 32 << 20
	e := &examiner{checker: checker{r: mustParse(t, head+"uroot: [ls]\ngo: [{package: example.com/a/a@v1.0.0}]\nfiles: [{path: /a, content: abc}]\n")}, facts: facts}
	if size, missing := e.bootFile(); size != 63<<20+3 || missing != nil {
		t.Errorf("size is %d with %v missing, want %d", size, missing, 63<<20+3)
	}
	e.facts.Sizes = nil
	if size, missing := e.bootFile(); size != 35<<20+3 || len(missing) != 3 {
		t.Errorf("size is %d with %v missing", size, missing)
	}
}

// A machine that takes updates of which no operator can push any works, by a
// server or a stick.
func TestUpdateWithoutOperators(t *testing.T) {
	dir, err := filepath.Abs("testdata/good/trust")
	if err != nil {
		t.Fatal(err)
	}
	const want = "trust has no authority of operators"
	for trust, warns := range map[string]bool{"{image: [" + dir + "/image.pem]}": true, "{image: [" + dir + "/image.pem], operator: " + dir + "/operator.pem}": false, "{keys: " + dir + "}": false} {
		rep := examine(t, "update: {}\ntrust: "+trust+"\n", Facts{})
		if len(rep.Errors) > 0 || strings.Contains(rep.Warnings.Error(), want) != warns {
			t.Errorf("%s: errors %v, warnings %v", trust, rep.Errors, rep.Warnings)
		}
	}
}
