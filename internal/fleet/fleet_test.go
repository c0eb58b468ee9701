package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/audit"
)

var (
	testNow = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	ctx     = context.Background()
)

func newStore(t testing.TB) (*SQLite, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

// enrol puts a host into the store.
func enrol(t testing.TB, s Store, name string, state attest.State) *Host {
	t.Helper()
	h := &Host{Host: attest.Host{Record: attest.Record{Name: name, State: state, AKName: []byte("ak of " + name), EKName: []byte("ek of " + name), Enrolled: testNow}}}
	err := s.Update(ctx, name, func(c *Change) error {
		if c.Host != nil {
			return errors.New("is there")
		}
		c.Host = h
		c.Record(&audit.Record{Kind: audit.KindEnrolled, Time: testNow})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHost: what is kept comes back, over a restart too.
func TestHost(t *testing.T) {
	s, dir := newStore(t)
	enrol(t, s, "a", attest.Active)
	want := &Host{}
	err := s.Update(ctx, "a", func(c *Change) error {
		h := c.Host
		h.Baseline(map[pcr.Bank]map[int]pcr.Digest{pcr.SHA256: {0: pcr.SHA256.Sum(nil)}}, 3)
		h.Judged(&attest.Verdict{Trusted: true, At: testNow})
		h.Last = &Last{Version: "1", Slot: "a"}
		h.Rejected = &Rejected{At: testNow, Code: attest.AKKey, Address: "192.0.2.1"}
		h.Silent = true
		c.Record(&audit.Record{Kind: audit.KindVerdict, Time: testNow})
		want = h
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want.Revision, want.Last.Seq = 2, 2
	for range 2 {
		got, err := s.Host(ctx, "a")
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Host{})); err != nil || d != "" || got.Head().Seq != 2 || got.Head().Sum.IsZero() {
			t.Errorf("%v, head %v (-want +got)\n%s", err, got.Head(), d)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(dir, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	defer s.Close()
	if _, err := s.Host(ctx, "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	reader, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if h, err := reader.Host(ctx, "a"); err != nil || h.Last.Slot != "a" {
		t.Errorf("read beside: %v", err)
	}
	if err := reader.Keep(ctx, audit.Blob{}); err == nil {
		t.Error("a reader writes")
	}
}

// TestUpdate: what fails changes nothing, and one TPM has one name.
func TestUpdate(t *testing.T) {
	s, _ := newStore(t)
	enrol(t, s, "a", attest.Pending)
	enrol(t, s, "b", attest.Active)
	oops := errors.New("oops")
	for name, c := range map[string]struct {
		fn   func(*Change) error
		want error
	}{
		"error": {func(c *Change) error {
			c.Host.Trusted = true
			c.Record(&audit.Record{Kind: audit.KindSilent})
			return oops
		}, oops},
		"another's key": {func(c *Change) error {
			c.Host.Record.EKName = []byte("ek of b")
			c.Record(&audit.Record{Kind: audit.KindSilent}, audit.Blob{Sum: audit.Sum([]byte("x")), Data: []byte("x")})
			return nil
		}, ErrTaken},
	} {
		if err := s.Update(ctx, "a", c.fn); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Update(ctx, "c", func(*Change) error { return nil }); err == nil {
		t.Error("a change of nobody")
	}
	if err := s.Update(ctx, "a", func(c *Change) error { c.Host.Record.Name = "z"; return nil }); err == nil {
		t.Error("a host changed its name")
	}
	h, err := s.Host(ctx, "a")
	if err != nil || h.Trusted || h.Revision != 1 || h.Head().Seq != 1 {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := s.Blob(ctx, audit.Sum([]byte("x"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("a blob of a change that failed: %v", err)
	}
	n, err := s.Pending(ctx)
	owner, err2 := s.Owner(ctx, []byte("ek of b"))
	nobody, err3 := s.Owner(ctx, []byte("ek of c"))
	if n != 1 || owner != "b" || nobody != "" || errors.Join(err, err2, err3) != nil {
		t.Errorf("%d, %q, %q, %v", n, owner, nobody, errors.Join(err, err2, err3))
	}
}

// TestTogether: changes of many at once all arrive, in a chain for each host,
// and share transactions.
func TestTogether(t *testing.T) {
	s, _ := newStore(t)
	const hosts, each = 20, 25
	for i := range hosts {
		enrol(t, s, fmt.Sprintf("host-%02d", i), attest.Active)
	}
	start := time.Now()
	var g sync.WaitGroup
	for i := range hosts * each {
		g.Go(func() {
			err := s.Update(ctx, fmt.Sprintf("host-%02d", i%hosts), func(c *Change) error {
				c.Host.Record.Floor++
				b := audit.Blob{Data: fmt.Append(nil, i%3)}
				b.Sum = audit.Sum(b.Data)
				c.Record(&audit.Record{Kind: audit.KindFloor, Time: testNow.Add(time.Duration(i) * time.Second)}, b)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	t.Logf("%d changes in %s", hosts*each, time.Since(start))
	list, err := s.Hosts(ctx)
	if err != nil || len(list) != hosts || list[3].Record.Name != "host-03" {
		t.Fatalf("%d hosts, %v", len(list), err)
	}
	var chain audit.Chain
	n := 0
	err = s.Records(ctx, Query{}, func(line []byte) error {
		_, err := chain.Next(line)
		n++
		return err
	})
	if err != nil || n != hosts*(each+1) {
		t.Errorf("%d records, %v", n, err)
	}
	for _, h := range list {
		if h.Record.Floor != each || h.Head() != chain.Head(h.Record.Name) {
			t.Errorf("%s: %d, head %v", h.Record.Name, h.Record.Floor, h.Head())
		}
	}
	count := func(q Query) (n int, last string) {
		if err := s.Records(ctx, q, func(line []byte) error { n, last = n+1, string(line); return nil }); err != nil {
			t.Error(err)
		}
		return n, last
	}
	if n, last := count(Query{Host: "host-03", Kind: audit.KindFloor, Last: 4}); n != 4 || !strings.Contains(last, fmt.Sprintf(`"seq":%d,`, each+1)) {
		t.Errorf("%d, %s", n, last)
	}
	if n, _ := count(Query{Since: testNow.Add(time.Second), Until: testNow.Add(10 * time.Second)}); n != 10 {
		t.Errorf("%d records of ten seconds", n)
	}
	if n, _ := count(Query{Last: 7}); n != 7 {
		t.Errorf("%d of 7", n)
	}
}

// TestFailTogether: changes that fail do not take others of their batch with
// them, and leave nothing.
func TestFailTogether(t *testing.T) {
	s, _ := newStore(t)
	enrol(t, s, "thief", attest.Active)
	for i := range 10 {
		enrol(t, s, fmt.Sprint("host-", i), attest.Active)
	}
	var g sync.WaitGroup
	for i := range 10 {
		for range 5 {
			g.Go(func() {
				err := s.Update(ctx, fmt.Sprint("host-", i), func(c *Change) error {
					c.Host.Record.Floor++
					c.Record(&audit.Record{Kind: audit.KindFloor, Time: testNow})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			g.Go(func() {
				data := fmt.Append(nil, "stolen", i)
				err := s.Update(ctx, "thief", func(c *Change) error {
					c.Host.Record.EKName = fmt.Append(nil, "ek of host-", i)
					c.Record(&audit.Record{Kind: audit.KindFloor, Time: testNow}, audit.Blob{Sum: audit.Sum(data), Data: data})
					return nil
				})
				if !errors.Is(err, ErrTaken) {
					t.Error(err)
				}
				if _, err := s.Blob(ctx, audit.Sum(data)); !errors.Is(err, ErrNotFound) || s.isKnown(audit.Sum(data)) {
					t.Errorf("kept: %v", err)
				}
			})
		}
	}
	g.Wait()
	var chain audit.Chain
	n := 0
	if err := s.Records(ctx, Query{}, func(line []byte) error { n++; _, err := chain.Next(line); return err }); err != nil || n != 11+50 {
		t.Errorf("%d records, %v", n, err)
	}
}

// TestKept: the database itself refuses to change or remove records.
func TestKept(t *testing.T) {
	s, dir := newStore(t)
	enrol(t, s, "a", attest.Active)
	data := []byte("log")
	if err := s.Keep(ctx, audit.Blob{Sum: audit.Sum(data), Data: data}, audit.Blob{Sum: audit.Sum(nil)}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Blob(ctx, audit.Sum(data)); err != nil || string(got) != "log" {
		t.Errorf("%q, %v", got, err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"DELETE FROM audit", "UPDATE audit SET line = ''", "DELETE FROM blobs", "UPDATE blobs SET data = x''"} {
		if _, err := db.Exec(q); err == nil || !strings.Contains(err.Error(), "are kept") {
			t.Errorf("%s: %v", q, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	s.Close()
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	var newer *NewerError
	if _, err := Open(dir, Options{}); !errors.As(err, &newer) {
		t.Errorf("state of a later ingot: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "0755") {
		t.Errorf("for all to read: %v", err)
	}
	if err := s.Keep(ctx); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestFresh: an empty directory of this user, such as a new volume of a container, is shut
// for others; one of another user is not touched.
func TestFresh(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0o755, 0o777} {
		at := filepath.Join(dir, mode.String())
		if err := errors.Join(os.Mkdir(at, 0o700), os.Chmod(at, mode)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(at, Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	foreign := filepath.Join(dir, "foreign")
	if err := errors.Join(os.Mkdir(foreign, 0o755), os.Chmod(foreign, 0o755), os.Chown(foreign, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(foreign, Options{}); err == nil || !strings.Contains(err.Error(), "0755") {
		t.Errorf("of another user: %v", err)
	}
	if info, err := os.Stat(foreign); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestOverdue: silence is found once.
func TestOverdue(t *testing.T) {
	s, _ := newStore(t)
	for name, at := range map[string]time.Time{"never": {}, "old": testNow, "new": testNow.Add(time.Hour)} {
		enrol(t, s, name, attest.Active)
		if err := s.Update(ctx, name, func(c *Change) error { c.Host.At = at; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range [][]string{{"old"}, nil} {
		got, err := s.Overdue(ctx, testNow.Add(time.Minute))
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%v\n%s", err, d)
		}
		if err := s.Update(ctx, "old", func(c *Change) error { c.Host.Silent = true; return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpen: offers and challenges are taken once.
func TestOpen(t *testing.T) {
	s, _ := newStore(t)
	c, _ := attest.NewChallenge(make([]byte, 16), nil, []byte("key"), testNow)
	o := attest.Offer{ChannelKey: []byte("key"), Record: attest.Record{Name: "a"}, Expires: testNow.Add(time.Minute)}
	if err := errors.Join(s.PutChallenge(ctx, "a", c, testNow), s.PutOffer(ctx, o, testNow)); err != nil {
		t.Fatal(err)
	}
	_, err := s.TakeChallenge(ctx, "a", []byte("key"))
	_, err2 := s.TakeOffer(ctx, "a", []byte("key"))
	if errors.Join(err, err2) != nil {
		t.Error(err, err2)
	}
	_, err = s.TakeChallenge(ctx, "a", []byte("key"))
	_, err2 = s.TakeOffer(ctx, "a", []byte("key"))
	if !errors.Is(err, ErrNotFound) || !errors.Is(err2, ErrNotFound) {
		t.Error(err, err2)
	}
}

// TestOneTPM: a TPM that shows another of its endorsement keys gets no second
// name.
func TestOneTPM(t *testing.T) {
	s, _ := newStore(t)
	a := enrol(t, s, "a", attest.Active)
	err := s.Update(ctx, "b", func(c *Change) error {
		c.Host = &Host{Host: attest.Host{Record: attest.Record{Name: "b", State: attest.Pending, AKName: a.Record.AKName, EKName: []byte("another"), Enrolled: testNow}}}
		return nil
	})
	if !errors.Is(err, ErrTaken) {
		t.Errorf("got %v", err)
	}
}
