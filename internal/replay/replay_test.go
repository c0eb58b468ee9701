package replay_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/replay"
	"github.com/ingot-os/ingot/internal/replay/replaytest"
)

var (
	ctx  = context.Background()
	from = replaytest.From
)

func state(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := replaytest.State(dir, "../../attest/testdata/"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir string, o replay.Options) *replay.Report {
	t.Helper()
	s, err := fleet.Open(dir, fleet.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := replay.Run(ctx, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// edit changes the database as somebody with the whole of it can.
func edit(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, fleet.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range append([]string{"DROP TRIGGER audit_keep", "DROP TRIGGER audit_same", "DROP TRIGGER blobs_keep", "DROP TRIGGER blobs_same"}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// TestSame: what was recorded is judged the same, and found by host and time.
func TestSame(t *testing.T) {
	dir := state(t)
	r := run(t, dir, replay.Options{})
	if r.Records != 6 || r.Verdicts != 6 || r.Same != 6 || len(r.Problems) != 0 || r.Broken() || r.Differs() || len(r.Heads) != 2 || r.Heads[1].Records != 3 {
		t.Errorf("%+v", r)
	}
	if !r.First.Equal(from) || !r.Last.Equal(from.Add(2*time.Hour)) {
		t.Errorf("from %s to %s", r.First, r.Last)
	}
	r = run(t, dir, replay.Options{Host: "edge-2", Since: from.Add(time.Hour)})
	if r.Records != 3 || r.Verdicts != 2 || r.Same != 2 || len(r.Heads) != 1 || r.Heads[0].Host != "edge-2" {
		t.Errorf("%+v", r)
	}
	s, err := fleet.Open(dir, fleet.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := replay.Run(ctx, s, replay.Options{Host: "edge-3"}); !errors.Is(err, replay.ErrNoHost) {
		t.Errorf("a host that nobody knows: %v", err)
	}
}

// TestForged: each way to change the record is found, at its place.
func TestForged(t *testing.T) {
	const seq2 = "host = 'edge-1' AND seq = 2"
	const newest = "host = 'edge-2' AND seq = 3"
	for name, c := range map[string]struct {
		edit []string
		want string // of the first problem: kind, host, seq
		also replay.Kind
		same int
	}{
		"edited":                 {[]string{"UPDATE audit SET line = replace(line, 'T03:00:00Z', 'T03:00:01Z') WHERE " + seq2}, "broken edge-1 3", "", 6},
		"removed":                {[]string{"DELETE FROM audit WHERE " + seq2}, "broken edge-1 3", "", 5},
		"newest removed":         {[]string{"DELETE FROM audit WHERE " + newest}, "broken edge-2 3", "", 5},
		"verdict turned":         {[]string{"UPDATE audit SET line = replace(line, '\"code\":\"secureboot.off\"', '\"trusted\":true') WHERE " + newest}, "differs edge-2 3", replay.Broken, 5},
		"no JSON":                {[]string{"UPDATE audit SET line = 'hello' WHERE " + seq2}, "broken  0", "", 5},
		"host removed":           {[]string{"DELETE FROM audit WHERE host = 'edge-1'", "DELETE FROM hosts WHERE name = 'edge-1'"}, "broken  0", "", 3},
		"last host removed":      {[]string{"DELETE FROM audit WHERE host = 'edge-2'", "DELETE FROM hosts WHERE name = 'edge-2'"}, "broken  0", "", 3},
		"entry, newest removed":  {[]string{"DELETE FROM audit WHERE " + newest, "DELETE FROM hosts WHERE name = 'edge-2'"}, "broken edge-2 2", replay.Broken, 5},
		"entry of an older time": {[]string{"UPDATE hosts SET seq = 2 WHERE name = 'edge-2'"}, "broken edge-2 2", "", 6},
		"entry without records":  {[]string{"UPDATE hosts SET seq = 0, head = X'" + strings.Repeat("00", 32) + "' WHERE name = 'edge-2'"}, "broken edge-2 0", "", 6},
		"blob edited":            {[]string{"UPDATE blobs SET data = X'00' WHERE instr(data, 'securityEpoch') > 0"}, "broken edge-1 1", "", 0},
		"blob removed":           {[]string{"DELETE FROM blobs WHERE instr(data, 'securityEpoch') > 0"}, "missing edge-1 1", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := state(t)
			edit(t, dir, c.edit...)
			r := run(t, dir, replay.Options{})
			if len(r.Problems) == 0 {
				t.Fatal("no problem")
			}
			p := r.Problems[0]
			if got := strings.Join([]string{string(p.Kind), p.Host, string(rune('0' + p.Seq))}, " "); got != c.want || r.Same != c.same || p.Detail == "" {
				t.Errorf("%s, %d the same, want %s, %d: %+v", got, r.Same, c.want, c.same, r.Problems)
			}
			if c.also != "" && (len(r.Problems) != 2 || r.Problems[1].Kind != c.also) {
				t.Errorf("no %s: %+v", c.also, r.Problems)
			}
			if r.Differs() != (p.Kind == replay.Differs) || r.Broken() == (p.Kind == replay.Differs && c.also == "") {
				t.Errorf("broken %v, differs %v", r.Broken(), r.Differs())
			}
		})
	}
}

// TestOtherVerdict: a verifier that has become stricter differs; the record is
// whole. Here the reference is another one of the same name.
func TestOtherVerdict(t *testing.T) {
	dir := state(t)
	s, err := fleet.Open(dir, fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &audit.Record{Kind: audit.KindVerdict, Time: from.Add(5 * time.Hour)}
	err = s.Records(ctx, fleet.Query{Host: "edge-1", Last: 1}, func(line []byte) error {
		last, err := audit.Parse(line)
		*r = *last
		r.Trusted, r.Code = false, attest.ImageUnknown // as an earlier verifier might have said
		return err
	})
	if err == nil {
		err = s.Update(ctx, "edge-1", func(c *fleet.Change) error { c.Record(r); return nil })
	}
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	report := run(t, dir, replay.Options{})
	want := []replay.Problem{{Kind: replay.Differs, Host: "edge-1", Seq: 4, Time: from.Add(2 * time.Hour), Was: attest.ImageUnknown, Detail: "trusted now"}}
	if diff := cmp.Diff(want, report.Problems); diff != "" || report.Broken() || !report.Differs() || report.Same != 6 {
		t.Errorf("%+v (-want +got):\n%s", report, diff)
	}
}

// TestEnrolledKey: a verdict on evidence of another key than the one that was
// enrolled is no verdict on the host, nor is one on another host.
func TestEnrolledKey(t *testing.T) {
	dir := state(t)
	s, err := fleet.Open(dir, fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var last *audit.Record
	err = s.Records(ctx, fleet.Query{Host: "edge-1", Last: 1}, func(line []byte) (err error) {
		last, err = audit.Parse(line)
		return err
	})
	h, err2 := s.Host(ctx, "edge-1")
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	again := func(host string, enrolled ...[]byte) {
		t.Helper()
		err := s.Update(ctx, host, func(c *fleet.Change) error {
			for _, ak := range enrolled {
				c.Record(&audit.Record{Kind: audit.KindEnrolled, Time: last.Time, AKName: ak})
			}
			r := *last
			c.Record(&r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	again("edge-1", h.Record.AKName)   // 4, 5
	again("edge-1", []byte("foreign")) // 6, 7
	again("edge-2")                    // 4
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, replay.Options{})
	if r.Same != 7 || len(r.Problems) != 2 || r.Problems[0].Seq != 7 || r.Problems[1].Host != "edge-2" || r.Problems[1].Seq != 4 || !r.Broken() || r.Differs() {
		t.Errorf("%+v", r)
	}
}
