package inspect_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/policy"
	efiboot "github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/internal/ear"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/luks"
	"github.com/ingot-os/ingot/partition/state"
	"github.com/ingot-os/ingot/partition/tree"
)

// written makes the files of this test by what writes them otherwise. A
// variant, 1 for the second of a pair, differs in one thing.
var written = []struct {
	name  string
	kind  string
	write func(t testing.TB, dir string, variant int) string
	first string // start of the difference between variants 0 and 1
}{
	{"policy signatures", "policies", writePolicies, "policy ingot-floor-2: only in B"},
	{"encrypted volume", "luks", writeVolume, "token 0: floor: 1, 2"},
	{"state of a server", "database", writeServer, "host edge-1: state: active, revoked"},
	{"state of a machine", "state", writeRegions, "region journal copy 0: phase: TRYING, REJECTED"},
	{"delta", "delta", writeDelta, "image new: sha256: "},
	{"attestation token", "token", writeToken, "claims claims: submods.edge-1.ear_status: contraindicated, affirming"},
}

// TestWritten prints each, and what differs in a pair.
func TestWritten(t *testing.T) {
	var out strings.Builder
	for _, w := range written {
		a, b := w.write(t, t.TempDir(), 0), w.write(t, t.TempDir(), 1)
		n := path(t, a)
		if n.Kind != w.kind || strings.Contains(text(t, n), "problem") {
			t.Errorf("%s: kind %s\n%.1000s", w.name, n.Kind, text(t, n))
		}
		data, err := json.Marshal(n)
		again := new(inspect.Node)
		if err != nil || json.Unmarshal(data, again) != nil || text(t, again) != text(t, n) {
			t.Errorf("%s: the JSON has not what the text has: %v", w.name, err)
		}
		diffs, err := inspect.Compare(a, b)
		if err != nil || len(diffs) == 0 || !strings.HasPrefix(diffs[0].String(), w.first) {
			t.Errorf("%s: the first difference is not %q but %v, %v", w.name, w.first, diffs[:min(1, len(diffs))], err)
		}
		if same, err := inspect.Compare(a, a); err != nil || len(same) > 0 {
			t.Errorf("%s differs from itself: %v, %v", w.name, same, err)
		}
		fmt.Fprintf(&out, "== %s\n%s-- differences\n", w.name, text(t, n))
		for _, d := range diffs {
			fmt.Fprintln(&out, d)
		}
	}
	golden.Equal(t, "testdata/written.txt", maskTokens(mask(out.String())))
}

func put(t testing.TB, dir, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func writePolicies(t testing.TB, dir string, variant int) string {
	f, err := policy.Sign(nil, testkey.Key("db"), 1+variant, policy.Digest{}.PCR(policy.Values{policy.Register: {1}}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return put(t, dir, "a-1.0.0.pcrsig", b)
}

const volumeSize = luks.MinSize + 1<<20

func writeVolume(t testing.TB, dir string, variant int) string {
	file := put(t, dir, "data", nil)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(volumeSize); err != nil {
		t.Fatal(err)
	}
	token := fmt.Sprintf(`{"type":"ingot-tpm2","keyslots":["0"],"version":1,"counter":25198593,"base":"7","floor":%d,"blobs":[{"floor":1,"limit":"8","pcr11":"00"}]}`, 1+variant)
	_, err = luks.Format(f, rand.NewChaCha8([32]byte{1}), luks.Volume{UUID: "11111111-2222-4333-8444-555555555555", Label: "a-data", Size: volumeSize,
		SectorSize: 4096, Slots: []luks.Slot{{Passphrase: []byte("one")}, {Passphrase: []byte("two")}}, Tokens: map[string]json.RawMessage{"0": json.RawMessage(token)}})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

var writtenAt = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)

// writeServer gives the directory, as an operator would.
func writeServer(t testing.TB, dir string, variant int) string {
	dir = filepath.Join(dir, "state")
	s, err := fleet.Open(dir, fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"edge-1", "edge-2"} {
		err := s.Update(context.Background(), name, func(c *fleet.Change) error {
			c.Host = &fleet.Host{Host: attest.Host{Record: attest.Record{Name: name, State: attest.Active, EKName: []byte(name), AKName: []byte("ak of " + name), Enrolled: writtenAt, Floor: int64(i)}}}
			c.Record(&audit.Record{Kind: audit.KindEnrolled, Time: writtenAt})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 1 + variant {
		err := s.Update(context.Background(), "edge-1", func(c *fleet.Change) error {
			c.Host.Judged(&attest.Verdict{Trusted: true, At: writtenAt})
			c.Host.Last = &fleet.Last{Release: "a", Version: "1.0.0", Slot: "a"}
			if variant == 1 {
				c.Host.Record.State = attest.Revoked
			}
			c.Record(&audit.Record{Kind: audit.KindVerdict, Time: writtenAt, Trusted: true})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeRegions(t testing.TB, dir string, variant int) string {
	file := put(t, dir, "p6", nil)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(state.Size); err != nil {
		t.Fatal(err)
	}
	r := slot.Record{Good: slot.A, Candidate: slot.B, Phase: slot.Trying, TriesLeft: 2, Attempt: 1, Arms: 1, Floor: 3, Schema: 1, Generation: 7,
		Slots: [2]slot.Content{{Version: "1.0.0", Image: slot.Digest{1}, Root: slot.Digest{2}, Epoch: 3, Schema: 1, Accepts: 1, Condition: slot.Good},
			{Version: "1.1.0", Image: slot.Digest{3}, Root: slot.Digest{4}, Epoch: 4, Schema: 1, Accepts: 1, Condition: slot.Ready}}}
	if variant == 1 {
		r.Phase, r.Candidate, r.TriesLeft, r.Attempt, r.Arms = slot.Rejected, slot.B, 0, 0, 0
		r.Cause, r.Culprit, r.Detail = slot.Unhealthy, slot.B, "no answer on port 80"
	}
	journal, err := r.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	rejected, err := slot.EncodeRejections([]slot.Rejection{{Version: "0.9.0", Image: slot.Digest{5}, Cause: slot.Panic}})
	if err != nil {
		t.Fatal(err)
	}
	for region, payload := range map[state.Region][]byte{state.Journal: journal, state.Rejected: rejected,
		state.Clock: binary.LittleEndian.AppendUint64(nil, uint64(writtenAt.Unix())), state.Machine: []byte("hostname: one\n"),
		state.Update: []byte(`{"progress":{"from":4096}}`)} {
		if err := state.Store(f, region, payload); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func writeDelta(t testing.TB, dir string, variant int) string {
	old := bytes.Repeat([]byte("old image "), 1000)
	new := append(bytes.Clone(old), byte(1+variant))
	var b bytes.Buffer
	if _, err := delta.Make(&b, delta.Image{ReaderAt: bytes.NewReader(old), Size: int64(len(old))}, delta.Image{ReaderAt: bytes.NewReader(new), Size: int64(len(new))}); err != nil {
		t.Fatal(err)
	}
	return put(t, dir, "a.delta", b.Bytes())
}

func writeToken(t testing.TB, dir string, variant int) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ear.New(attest.Verdict{Host: "edge-1", Trusted: variant == 1, At: writtenAt}, ear.Options{Build: "ingot 1.0"}).Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return put(t, dir, "result.jwt", append(token, '\n'))
}

// maskTokens takes the signatures out, which no two tokens share.
func maskTokens(text string) string {
	return regexp.MustCompile(`\b[0-9a-f]{128}\b`).ReplaceAllString(text, "<signature>")
}

// TestDamagedCopy: one copy of a volume's header is enough to read it, and the
// other is a problem that is told.
func TestDamagedCopy(t *testing.T) {
	for off, want := range map[int64]string{5000: "first header: ", 20 << 10: "second header: ", 2: "first header: "} {
		file := writeVolume(t, t.TempDir(), 0)
		whole := path(t, file)
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		xor(t, f, off, 1)
		f.Close()
		n := path(t, file)
		if n.Kind != "luks" || !strings.HasPrefix(n.Field("problem"), want) || len(n.Children) != len(whole.Children) {
			t.Errorf("byte %d: %s", off, text(t, n))
		}
	}
}

// TestServerRuns: a server that is at work is read beside, and nothing is
// written. A copy of its file is read where nothing can be made.
func TestServerRuns(t *testing.T) {
	dir := writeServer(t, t.TempDir(), 0)
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	path(t, dir)
	if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
		t.Errorf("%v, %v: were %v", after, err, before)
	}
	s, err := fleet.Open(dir, fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Update(context.Background(), "edge-1", func(c *fleet.Change) error {
		c.Host.Record.State = attest.Revoked
		c.Record(&audit.Record{Kind: audit.KindRevoked, Time: writtenAt})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := path(t, dir)
	if h := n.Find("host", "edge-1"); h == nil || h.Field("state") != "revoked" || h.Field("records") != "3" || n.Field("records") != "4" {
		t.Errorf("beside a server: %s", text(t, n))
	}
}

// TestForeignDatabase: no query runs on definitions that are not ours.
func TestForeignDatabase(t *testing.T) {
	for name, statement := range map[string]string{
		"endless view": "CREATE VIEW more AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n",
		"newer":        "PRAGMA user_version = 99",
		"empty":        "DROP TABLE hosts",
	} {
		dir := writeServer(t, t.TempDir(), 0)
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, fleet.FileName))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
		db.Close()
		n := path(t, dir)
		if p := n.Field("problem"); n.Kind != "database" || !strings.Contains(p, "schema") || len(n.Children) > 0 {
			t.Errorf("%s: %s", name, text(t, n))
		}
	}
}

// TestDamagedDatabase: bytes of others end in a problem or in a value.
func TestDamagedDatabase(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(writeServer(t, t.TempDir(), 0), fleet.FileName))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		b := bytes.Clone(whole)
		for range 1 + i {
			b[16+r.IntN(len(b)-16)] ^= byte(1 + r.IntN(255))
		}
		if i%4 == 0 {
			b = b[:r.IntN(len(b))+16]
		}
		text(t, path(t, put(t, t.TempDir(), "state.db", b)))
	}
}

// TestManyValues: a long name above many values does not take its length for
// each of them.
func TestManyValues(t *testing.T) {
	for name, doc := range map[string]string{
		"long name":   `{"hashAlg":1,"` + strings.Repeat("a", 2000) + `":[` + strings.Repeat("0,", 1000) + `0]}`,
		"deep":        `{"hashAlg":1,"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
		"many values": `{"hashAlg":1,"` + strings.Repeat("a", 1000) + `":[` + strings.Repeat("0,", 200000) + `0]}`,
	} {
		n := path(t, put(t, t.TempDir(), "a.json", []byte(doc)))
		if n.Kind != "pcrlock" || n.Field("problem") == "" {
			t.Errorf("%s: %s, %d fields, %q", name, n.Kind, len(n.Fields), n.Field("problem"))
		}
	}
}

// FuzzWritten gives the readers of this file what begins like theirs.
func FuzzWritten(f *testing.F) {
	for _, w := range written {
		if w.kind == "database" { // SQLite has fuzz tests of its own
			continue
		}
		b, err := os.ReadFile(w.write(f, f.TempDir(), 0))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 64<<10)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := inspect.Reader(bytes.NewReader(data), int64(len(data)), "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		text(t, n)
	})
}

// TestPoliciesInSlot: the signatures that lie beside a boot file are shown
// there, too.
func TestPoliciesInSlot(t *testing.T) {
	signed, err := os.ReadFile(writePolicies(t, t.TempDir(), 0))
	if err != nil {
		t.Fatal(err)
	}
	files := new(tree.Tree)
	if err := files.Add(tree.Node{Path: efiboot.PolicyPath, Mode: 0o644, Content: tree.Bytes(signed)}); err != nil {
		t.Fatal(err)
	}
	img, err := fat.Plan(files, fat.Options{Size: 64 << 20, Serial: 1, Epoch: writtenAt.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "slot"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(img.Write(f), f.Truncate(64<<20)); err != nil {
		t.Fatal(err)
	}
	if n := path(t, f.Name()).Find("policies", efiboot.PolicyPath); n == nil || n.Find("policy", "ingot-floor-1") == nil {
		t.Errorf("no policies in %s", text(t, path(t, f.Name())))
	}
}
