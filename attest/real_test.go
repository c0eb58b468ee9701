package attest

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// paths is one reference of the recorded image for all ways to boot it, made of
// its boot from the disk by the rules: without the partition table over the
// network, without the kernel in PCR 4 and with keys under Secure Boot, the image
// twice and another command line by iPXE.
func paths(t testing.TB) Reference {
	t.Helper()
	r := reference(t)
	disk := r.Paths[0]
	without := func(events []Expected, names ...string) []Expected {
		return slices.DeleteFunc(slices.Clone(events), func(x Expected) bool { return slices.Contains(names, x.Name) && x.PCR != 11 })
	}
	pxe := Path{Boot: "pxe", Events: without(disk.Events, "GPT"), Empty: disk.Empty}
	secure := Path{Boot: "disk", SecureBoot: true, Events: without(disk.Events, ".linux"), Empty: disk.Empty}
	log := events(t, record(t, "boot-257-secureboot").Log)
	for i, name := range variables {
		e := log[find(t, log, 7, eventlog.VariableDriver, i)]
		secure.Events = append(secure.Events, Expected{7, e.Type, name, e.Digests})
	}
	e := log[find(t, log, 7, eventlog.VariableAuthority, 0)]
	secure.Events = append(secure.Events, Expected{7, e.Type, "db", e.Digests})

	ipxe := Path{Boot: "ipxe", Replaced: true}
	cmdline := measured(9, eventlog.EventTag, utf16le("evidence-1.0.0.efi"))
	for _, x := range pxe.Events {
		switch x.Name {
		case "UKI":
			ipxe.Events = append(ipxe.Events, x)
		case nameLoadOptions:
			x.Digests = cmdline.Digests
		}
		ipxe.Events = append(ipxe.Events, x)
	}
	ipxe.Events = append(ipxe.Events, Expected{12, eventlog.IPL, "load options", cmdline.Digests})
	r.Paths = []Path{disk, pxe, secure, ipxe}
	return r
}

func utf16le(s string) string {
	var b []byte
	for _, c := range []byte(s + "\x00") {
		b = append(b, c, 0)
	}
	return string(b)
}

// TestRealBoots: one reference attests the recorded boots of one image from the
// disk, over the network and under Secure Boot. iPXE, which hands the kernel
// another command line, is refused unless the policy names it, and another
// version of the stub is another image.
func TestRealBoots(t *testing.T) {
	for _, c := range []struct {
		name    string
		policy  Policy
		want    Code
		section string
		boot    string
		failed  int
	}{
		{"boot-257", Policy{}, "", "", "disk", 0},
		{"boot-257", Policy{SecureBoot: true}, SecureBootOff, "", "disk", 0},
		{"boot-257-pxe", Policy{}, "", "", "pxe", 1},
		{"boot-257-pxe", Policy{Paths: []string{"disk"}}, LogType, "", "disk", 1},
		{"boot-257-secureboot", Policy{SecureBoot: true}, "", "", "disk", 0},
		{"boot-257-ipxe", Policy{}, CmdlineReplaced, "", "pxe", 1},
		{"boot-257-ipxe", Policy{Paths: []string{"ipxe"}}, "", "", "ipxe", 1},
		{"boot-252", Policy{}, ImageUnknown, ".uname", "disk", 0},
	} {
		f := genuine(t)
		f.log = events(t, record(t, c.name).Log)
		f.c = func(x *Case) { x.References, x.Policy = []Reference{paths(t)}, c.policy }
		v := Verify(f.build())
		if v.Reason() != c.want || v.Trusted != (c.want == "") || v.Boot != c.boot || v.FailedBootOptions != c.failed {
			t.Errorf("%s: got %q by %s with %d failed, want %q by %s with %d: %v", c.name, v.Reason(), v.Boot, v.FailedBootOptions, c.want, c.boot, c.failed, v.Findings)
		}
		if c.want != "" && v.Findings[0].Section != c.section {
			t.Errorf("%s: section %q, want %q", c.name, v.Findings[0].Section, c.section)
		}
	}
}

// enrolledKeys are those of the recorded boot under Secure Boot.
func enrolledKeys(t testing.TB) Keys {
	t.Helper()
	l, err := eventlog.Parse(record(t, "boot-257-secureboot").Log)
	if err != nil {
		t.Fatal(err)
	}
	var k Keys
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != 7 || e.Type == eventlog.Separator {
			continue
		}
		v, err := e.Variable()
		if err != nil {
			t.Fatal(err)
		}
		sum := pcr.SHA256.Sum(v.Data)
		switch v.Name {
		case "PK":
			k.PK = sum
		case "KEK":
			k.KEK = sum
		case "db":
			if k.DB == nil {
				k.DB = sum
			}
		}
		if a, ok := v.Authority(); ok && e.Type == eventlog.VariableAuthority {
			k.Authorities = append(k.Authorities, pcr.SHA256.Sum(a.Certificate))
		}
	}
	return k
}

// TestKeysOfPolicy: where the reference is silent the policy names the keys.
func TestKeysOfPolicy(t *testing.T) {
	good, other := enrolledKeys(t), pcr.SHA256.Sum(nil)
	for _, c := range []struct {
		id   string
		edit func(k *Keys)
		log  func(f *fixture)
		want Code
	}{
		{"own keys", func(*Keys) {}, nil, ""},
		{"PK", func(k *Keys) { k.PK = other }, nil, SecureBootKeys},
		{"KEK", func(k *Keys) { k.KEK = other }, nil, SecureBootKeys},
		{"db", func(k *Keys) { k.DB = other }, nil, SecureBootKeys},
		{"no PK is known", func(k *Keys) { k.PK = nil }, nil, SecureBootKeys},
		{"P17 another authority", func(k *Keys) { k.Authorities[0] = other }, nil, SecureBootOther},
		{"P17 shim's authority beside", func(*Keys) {}, edited(appended(authority(1))), SecureBootOther},
		{"no authority", func(*Keys) {}, edited(dropped(7, eventlog.VariableAuthority, 0)), MeasureMissing},
	} {
		f := genuine(t)
		f.log = events(t, record(t, "boot-257-secureboot").Log)
		if c.log != nil {
			c.log(f)
		}
		k := good
		k.Authorities = slices.Clone(good.Authorities)
		c.edit(&k)
		f.c = func(x *Case) {
			ref := paths(t)
			for i := range ref.Paths {
				ref.Paths[i].Events = slices.DeleteFunc(ref.Paths[i].Events, func(x Expected) bool { return x.PCR == 7 })
			}
			x.References, x.Policy = []Reference{ref}, Policy{SecureBoot: true, Keys: []Keys{k}}
			if c.want == "" { // an older set beside it
				x.Policy.Keys = append([]Keys{{PK: other}}, x.Policy.Keys...)
			}
		}
		v := Verify(f.build())
		if v.Reason() != c.want || c.want == "" && v.Compared != 6 {
			t.Errorf("%s: got %q, want %q: %v, %d compared", c.id, v.Reason(), c.want, v.Findings, v.Compared)
		}
	}
}

// TestPredicted: a reference that was computed from the image alone, before any
// boot, attests the recorded boots of it, and no other.
func TestPredicted(t *testing.T) {
	b, err := os.ReadFile("testdata/reference-257.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref Reference
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Code{"boot-257": "", "boot-257-pxe": "", "boot-257-secureboot": "", "boot-257-ipxe": CmdlineReplaced, "boot-252": ImageUnknown} {
		for _, bank := range []pcr.Bank{pcr.SHA256, pcr.SHA384} {
			f := genuine(t)
			f.log = events(t, record(t, name).Log)
			f.quoted = []tpm2.TPMSPCRSelection{selection(bank, DefaultPCRs...)}
			f.c = func(c *Case) {
				c.References = []Reference{ref}
				if name == "boot-257-secureboot" {
					c.Policy = Policy{SecureBoot: true, Keys: []Keys{enrolledKeys(t)}}
				}
			}
			if v := Verify(f.build()); v.Reason() != want || v.Bank != bank.String() {
				t.Errorf("%s, %s: got %q, want %q: %v", name, bank, v.Reason(), want, v.Findings)
			}
		}
	}
}

// TestBestIsTheFirstOfTheBest: that unlikely paths are judged last, and only as
// far as they matter, changes neither the choice nor what is found.
func TestBestIsTheFirstOfTheBest(t *testing.T) {
	edits := append([]refusal{{id: "genuine", edit: func(*fixture) {}}}, logCases...)
	compared := 0
	for _, r := range edits {
		for _, name := range []string{"boot-257", "boot-257-pxe", "boot-257-secureboot", "boot-252"} {
			f := genuine(t)
			if name != "boot-257" && r.id != "genuine" {
				continue // the edits are of one log
			}
			f.log = events(t, record(t, name).Log)
			r.edit(f)
			c := f.build()
			other := reference(t)
			other.Version = "2.0.0"
			other.Paths = slices.Repeat(other.Paths, 2)
			other.Paths[0].Events = slices.Clone(other.Paths[0].Events)
			other.Paths[0].Events[3].Digests = nil
			c.References = append(c.References, other, paths(t), reference(t))
			for range len(c.References) {
				c.References = append(c.References[1:], c.References[0])
				compared += sameBest(t, r.id+", "+name, c)
			}
		}
	}
	if compared < 200 {
		t.Errorf("%d cases were compared", compared)
	}
}

// sameBest compares with judging every path in full; it gives 1 when there was
// something to choose.
func sameBest(t *testing.T, id string, c Case) int {
	k := &check{c: c}
	for _, stage := range []func(){k.identity, k.authentic, k.fresh, k.registers, k.replay, k.grammar} {
		if stage(); len(k.v.Findings) > 0 && !k.walking {
			return 0
		}
	}
	var want *walk
	index := 0
	for i := range c.References {
		for n := range c.References[i].Paths {
			if index++; !k.accepts(&c.References[i].Paths[n]) {
				continue
			}
			w := &walk{check: k, ref: &c.References[i], path: &c.References[i].Paths[n], index: index, limit: math.MaxInt}
			w.group()
			if w.run(); want == nil || len(w.findings) < len(want.findings) {
				want = w
			}
		}
	}
	got := k.bestOf(k.bestOf(nil, true), false)
	switch {
	case want == nil && got == nil:
		return 0
	case want == nil || got == nil || got.index != want.index || !slices.Equal(got.findings, want.findings):
		t.Errorf("%s: got %+v, want %+v", id, got, want)
	}
	return 1
}
