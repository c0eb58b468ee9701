package vuln

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/sbom"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func inventory() *sbom.Inventory {
	file := []sbom.Content{{Partition: "initramfs", Path: "x"}}
	return &sbom.Inventory{Components: []sbom.Component{
		{Ref: "deb:linux-image-6.12.117+deb13-cloud-amd64@6.12.117-1:amd64", Kind: sbom.KindDebian, Distro: "trixie", Source: "linux", SourceVersion: "6.12.117-1", Files: file},
		{Ref: "deb:systemd-boot-efi@257.13-1~deb13u1:amd64", Kind: sbom.KindDebian, Distro: "trixie", Source: "systemd", SourceVersion: "257.13-1~deb13u1", Files: file},
		{Ref: "deb:systemd@257.13-1~deb13u1:amd64", Kind: sbom.KindDebian, Distro: "trixie", Source: "systemd", SourceVersion: "257.13-1~deb13u1", Files: file},
		{Ref: "deb:x@1:amd64", Kind: sbom.KindDebian, Distro: "sid", Source: "x", SourceVersion: "1", Files: file},
		{Ref: "go:stdlib@1.26.8", Kind: sbom.KindGo, Name: "stdlib", Version: "1.26.8"},
		{Ref: "go:example.com/fork@v1.0.1", Kind: sbom.KindGo, Name: "example.com/fork", Version: "v1.0.1"},
		{Ref: "go:example.com/near", Kind: sbom.KindGo, Name: "example.com/near"},
		{Ref: "go:github.com/BurntSushi/toml@v1.4.1-0.20240526193622-a339e1f7089c", Kind: sbom.KindGo, Name: "github.com/BurntSushi/toml", Version: "v1.4.1-0.20240526193622-a339e1f7089c"},
		{Ref: "ingot-init", Kind: sbom.KindIngot, Version: "0.1.0", Files: file},
		{Ref: "ingot-generated", Kind: sbom.KindGenerated, Files: file},
		{Ref: "oci:abc", Kind: sbom.KindOCI, Name: "app", Files: file},
	}}
}

func match(t testing.TB, dir fs.FS) *Matches {
	t.Helper()
	packages, _ := Packages(inventory())
	m, err := Match(context.Background(), dir, packages)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func report(t testing.TB, m *Matches, p Policy) *Report {
	t.Helper()
	_, unscanned := Packages(inventory())
	r, err := m.Report(p, now, unscanned)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var testPolicy = Policy{Threshold: Medium, Waivers: []Waiver{
	{ID: "CVE-2026-41001", Reason: "the driver is not in the image", Expires: "2026-12-31"},
	{ID: "GO-2026-9002", Reason: "no TLS server", Expires: "2026-11-21"},
	{ID: "CVE-2020-1", Reason: "gone", Expires: "2027-01-01"},
}}

func TestReportGolden(t *testing.T) {
	r := report(t, match(t, os.DirFS("testdata/osv")), testPolicy)
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, &again); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
	var b strings.Builder
	for _, row := range r.Rows() {
		fmt.Fprintln(&b, strings.Join(row, " | "))
	}
	b.Write(data)
	golden.Equal(t, "testdata/report.txt", b.String())
}

// archive puts the files of the test database into one all.zip per ecosystem.
func archive(t testing.TB) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	for _, dir := range []string{"Debian", "Go"} {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		files, err := filepath.Glob("testdata/osv/" + dir + "/*.json")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			e, err := w.Create(filepath.Base(f))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Create("index.csv"); err != nil { // no record, and to be skipped
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out[dir+"/all.zip"] = &fstest.MapFile{Data: b.Bytes()}
	}
	return out
}

func TestArchivesGiveTheSame(t *testing.T) {
	want := report(t, match(t, os.DirFS("testdata/osv")), testPolicy)
	zipped := archive(t)
	if d := cmp.Diff(want, report(t, match(t, zipped), testPolicy)); d != "" {
		t.Errorf("archives (-files +archives):\n%s", d)
	}
	// The same records twice change nothing but their number.
	zipped["again/all.zip"] = zipped["Go/all.zip"]
	got := report(t, match(t, zipped), testPolicy)
	if d := cmp.Diff(want.Findings, got.Findings); d != "" {
		t.Errorf("records twice:\n%s", d)
	}
	zipped["Go/broken.zip"] = &fstest.MapFile{Data: []byte("PK")}
	packages, _ := Packages(inventory())
	if _, err := Match(t.Context(), zipped, packages); err == nil || !strings.Contains(err.Error(), "Go/broken.zip") {
		t.Errorf("broken archive: %v", err)
	}
}

// TestLinkedDatabase: databases often lie elsewhere, and a link to one must not
// be an empty database. Each directory is read once, also where links go round.
func TestLinkedDatabase(t *testing.T) {
	want := match(t, os.DirFS("testdata/osv"))
	from, err := filepath.Abs("testdata/osv")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, to := range map[string]string{"db": from, "again": from, "round": ".", "sub": "round/db"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	got := match(t, os.DirFS(dir))
	if d := cmp.Diff(report(t, want, testPolicy), report(t, got, testPolicy)); d != "" {
		t.Errorf("linked (-files +links):\n%s", d)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	packages, _ := Packages(inventory())
	if _, err := Match(t.Context(), os.DirFS(dir), packages); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nowhere: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Match(ctx, archive(t), nil); err == nil {
		t.Error("a cancelled scan succeeds")
	}
}

// db is a database of one record in Debian's and one in Go's ecosystem that
// match nothing, and the given files.
func db(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{
		"a.json": &fstest.MapFile{Data: []byte(`{"id":"A","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Debian:13","name":"other"}}]}`)},
		"b.json": &fstest.MapFile{Data: []byte(`{"id":"B","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Go","name":"example.com/other"}}]}`)},
	}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func rec(id, modified, extra, affected string) string {
	return fmt.Sprintf(`{"id":%q,"modified":%q,%s"affected":[%s]}`, id, modified, extra, affected)
}

const linuxAll = `{"package":{"ecosystem":"Debian:13","name":"linux"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}`

func TestOutcome(t *testing.T) {
	const day = "2026-11-01T00:00:00Z"
	for _, c := range []struct {
		name  string
		files fstest.MapFS
		want  Outcome
		exit  int
	}{
		{"nothing found", db(nil), Clean, 0},
		{"a finding", db(map[string]string{"c.json": rec("C", day, "", linuxAll)}), Refused, 3},
		{"all of Debian", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, "Debian:13", "Debian", 1))}), Refused, 3},
		{"another release", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, "Debian:13", "Debian:12", 1))}), Clean, 0},
		{"another ecosystem", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, "Debian:13", "Ubuntu:24.04", 1))}), Clean, 0},
		{"withdrawn", db(map[string]string{"c.json": rec("C", day, `"withdrawn":"2026-11-01T00:00:00Z",`, linuxAll)}), Clean, 0},
		{"withdrawn later", db(map[string]string{
			"c.json": rec("C", day, "", linuxAll), "d.json": rec("C", "2026-11-02T00:00:00Z", `"withdrawn":"2026-11-02T00:00:00Z",`, linuxAll)}), Clean, 0},
		{"withdrawn in an old copy", db(map[string]string{
			"c.json": rec("C", "2026-11-02T00:00:00Z", "", linuxAll), "d.json": rec("C", day, `"withdrawn":"2026-11-01T00:00:00Z",`, linuxAll)}), Refused, 3},
		{"broken record", db(map[string]string{"c.json": `{"id":`}), Incomplete, 1},
		{"no time", db(map[string]string{"c.json": `{"id":"C"}`}), Incomplete, 1},
		{"later schema", db(map[string]string{"c.json": rec("C", day, `"schema_version":"2.0.0",`, "")}), Incomplete, 1},
		{"broken range", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, `"introduced":"0"`, `"fixed":"1"`, 1))}), Incomplete, 1},
		{"broken version", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, `"introduced":"0"`, `"introduced":"a b"`, 1))}), Incomplete, 1},
		{"two in one event", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, `"introduced":"0"`, `"introduced":"0","fixed":"1"`, 1))}), Incomplete, 1},
		{"unknown range", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, `ECOSYSTEM`, `MOON`, 1))}), Incomplete, 1},
		{"git only", db(map[string]string{"c.json": rec("C", day, "", strings.Replace(linuxAll, `ECOSYSTEM`, `GIT`, 1))}), Refused, 3},
		{"empty", fstest.MapFS{}, Incomplete, 1},
		{"only Go", fstest.MapFS{"b.json": db(nil)["b.json"]}, Incomplete, 1},
	} {
		r := report(t, match(t, c.files), Policy{})
		if r.Outcome != c.want || r.Outcome.ExitCode() != c.exit {
			t.Errorf("%s: %s, exit %d, want %s, exit %d; %+v %q", c.name, r.Outcome, r.Outcome.ExitCode(), c.want, c.exit, r.Findings, r.Problems)
		}
	}
	m, err := Match(t.Context(), db(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := m.Report(Policy{}, now, nil); r.Outcome != Incomplete {
		t.Errorf("no packages: %s", r.Outcome)
	}
}

func TestPolicyStates(t *testing.T) {
	fixed := strings.Replace(linuxAll, `{"introduced":"0"}`, `{"introduced":"0"},{"fixed":"7"}`, 1)
	high := `"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"}],"aliases":["CVE-1"],`
	w := func(id, pkg, expires string) []Waiver { return []Waiver{{id, pkg, "reason", expires}} }
	for _, c := range []struct {
		name   string
		record string
		policy Policy
		want   State
	}{
		{"high at high", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Threshold: High}, Open},
		{"high at critical", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Threshold: Critical}, Below},
		{"unrated at critical", rec("X", "2026-11-01T00:00:00Z", "", fixed), Policy{Threshold: Critical}, Open},
		{"unrated accepted", rec("X", "2026-11-01T00:00:00Z", "", fixed), Policy{AcceptUnrated: true}, Below},
		{"unfixed", rec("X", "2026-11-01T00:00:00Z", high, linuxAll), Policy{}, Open},
		{"unfixed accepted", rec("X", "2026-11-01T00:00:00Z", high, linuxAll), Policy{AcceptUnfixed: true}, Below},
		{"fixed although unfixed is accepted", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{AcceptUnfixed: true}, Open},
		{"undecided although unfixed is accepted", rec("X", "2026-11-01T00:00:00Z", high, strings.Replace(fixed, "ECOSYSTEM", "GIT", 1)), Policy{AcceptUnfixed: true}, Open},
		{"waived by id", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Waivers: w("X", "", "2026-12-01")}, Waived},
		{"waived by alias", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Waivers: w("CVE-1", "linux", "2026-12-01")}, Waived},
		{"waived on the last day", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Waivers: w("X", "", "2026-11-22")}, Waived},
		{"expired yesterday", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Waivers: w("X", "", "2026-11-21")}, Expired},
		{"expired and renewed", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Waivers: append(w("X", "", "2026-11-21"), w("X", "", "2026-12-01")...)}, Waived},
		{"waiver of another package", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Waivers: w("X", "systemd", "2026-12-01")}, Open},
		{"waiver of another id", rec("X", "2026-11-01T00:00:00Z", high, fixed), Policy{Waivers: w("Y", "", "2026-12-01")}, Open},
	} {
		r := report(t, match(t, db(map[string]string{"x.json": c.record})), c.policy)
		if len(r.Findings) != 1 || r.Findings[0].State != c.want {
			t.Errorf("%s: %+v, want one that is %s", c.name, r.Findings, c.want)
		}
	}
	for _, p := range []Policy{
		{Threshold: 9}, {Waivers: w("", "", "2026-12-01")}, {Waivers: w("X", "", "soon")}, {Waivers: w("X", "", "")}, {Waivers: []Waiver{{ID: "X", Expires: "2026-12-01"}}},
	} {
		if _, err := match(t, db(nil)).Report(p, now, nil); err == nil {
			t.Errorf("policy %+v is accepted", p)
		}
	}
}

// TestAdvisoryOfManyIsNotAnAlias: a waiver of one vulnerability must not waive
// the advisory that fixes several.
func TestAdvisoryOfManyIsNotAnAlias(t *testing.T) {
	r := report(t, match(t, db(map[string]string{"x.json": rec("DSA-1", "2026-11-01T00:00:00Z", `"upstream":["CVE-1","CVE-2"],`, linuxAll)})),
		Policy{Waivers: []Waiver{{"CVE-1", "", "reason", "2027-01-01"}}})
	if len(r.Findings) != 1 || r.Findings[0].State != Open {
		t.Errorf("got %+v", r.Findings)
	}
}

// TestAdvisoryThatSaysNothingNew: when every vulnerability of an advisory has a
// record of its own, those decide.
func TestAdvisoryThatSaysNothingNew(t *testing.T) {
	const day = "2026-11-01T00:00:00Z"
	files := map[string]string{
		"x.json": rec("DSA-1", day, `"upstream":["CVE-1","CVE-2"],`, linuxAll),
		"1.json": rec("DEBIAN-CVE-1", day, `"upstream":["CVE-1"],`, linuxAll),
		"2.json": rec("DEBIAN-CVE-2", day, `"upstream":["CVE-2"],`, strings.Replace(linuxAll, `{"introduced":"0"}`, `{"introduced":"0"},{"fixed":"1"}`, 1)),
	}
	if r := report(t, match(t, db(files)), Policy{}); len(r.Findings) != 1 || r.Findings[0].ID != "DEBIAN-CVE-1" {
		t.Errorf("all known: %+v", r.Findings)
	}
	files["2.json"] = strings.Replace(files["2.json"], `"linux"`, `"systemd"`, 1) // judged, but for another package
	if r := report(t, match(t, db(files)), Policy{}); len(r.Findings) != 2 {
		t.Errorf("one unknown: %+v", r.Findings)
	}
}

func TestSeveralEntriesAreOneFinding(t *testing.T) {
	two := linuxAll + "," + strings.Replace(linuxAll, `{"introduced":"0"}`, `{"introduced":"0"},{"fixed":"7"}`, 1)
	r := report(t, match(t, db(map[string]string{"x.json": rec("X", "2026-11-01T00:00:00Z", "", two)})), Policy{})
	if len(r.Findings) != 1 || r.Findings[0].Fixed != "7" {
		t.Errorf("got %+v", r.Findings)
	}
}

func TestRanges(t *testing.T) {
	type ev = event
	in := func(v string) ev { return ev{Introduced: v} }
	fix := func(v string) ev { return ev{Fixed: v} }
	last := func(v string) ev { return ev{LastAffected: v} }
	limit := func(v string) ev { return ev{Limit: v} }
	for _, c := range []struct {
		ecosystem string
		events    []ev
		yes, no   string // versions, space separated
	}{
		{GoEcosystem, []ev{in("0"), fix("1.2.3")}, "0.0.1 1.2.2 1.2.3-rc.1 v1.2.2 0.0.0-20200101000000-aaaaaaaaaaaa", "1.2.3 1.2.3+incompatible 1.10.0 v1.2.3"},
		{GoEcosystem, []ev{fix("1.1.0"), in("1.0.0"), fix("2.2.0"), in("2.0.0")}, "1.0.0 1.0.9 2.1.0", "0.9.0 1.1.0 1.9.0 2.2.0"},
		{GoEcosystem, []ev{in("1.0.0"), last("1.4.0")}, "1.0.0 1.4.0", "1.4.1 0.1.0"},
		{GoEcosystem, []ev{in("0"), limit("2.0.0")}, "1.9.9", "2.0.0 3.0.0"},
		{GoEcosystem, []ev{in("0"), limit("*")}, "1.9.9 99.0.0", ""},
		{GoEcosystem, []ev{in("1.26.0-0"), fix("1.26.9")}, "1.26.0-rc.1 1.26.8 1.26", "1.26.9 1.25.0"},
		{GoEcosystem, []ev{in("0"), fix("1.0.0"), in("1.0.0")}, "0.1.0 1.0.0 1.1.0", ""},
		{"Debian:13", []ev{in("0"), fix("6.12.118-1")}, "6.12.117-1 6.12.118-1~bpo12+1 6.12.9-1 1:0~", "6.12.118-1 6.12.118-1+deb13u1 6.13~rc1-1"},
		{"Debian:13", []ev{in("1:2.0-1"), fix("1:2.1-1")}, "1:2.0-1 1:2.0.5", "3.0-1 1:2.1-1 2:1"},
	} {
		r := versionRange{Type: "ECOSYSTEM", Events: c.events}
		o := orderOf(c.ecosystem)
		if err := r.check(o); err != nil {
			t.Errorf("%v: %v", c.events, err)
		}
		for _, v := range strings.Fields(c.yes) {
			if want := v != "1:0~"; r.holds(v, o) != want { // an epoch is above all
				t.Errorf("%s %v holds %s: %v", c.ecosystem, c.events, v, !want)
			}
		}
		for _, v := range strings.Fields(c.no) {
			if r.holds(v, o) {
				t.Errorf("%s %v holds %s", c.ecosystem, c.events, v)
			}
		}
	}
}

// TestTheWorstCounts: of two records of one vulnerability, and one decided entry
// settles what another leaves open.
func TestTheWorstCounts(t *testing.T) {
	const day = "2026-11-01T00:00:00Z"
	score := func(vector string) string {
		return `"aliases":["CVE-1"],"severity":[{"type":"CVSS_V3","score":"` + vector + `"}],`
	}
	r := report(t, match(t, db(map[string]string{
		"x.json": rec("X", day, score("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:N/A:N"), linuxAll),
		"y.json": rec("Y", day, score("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"), linuxAll),
	})), Policy{})
	if len(r.Findings) != 1 || r.Findings[0].ID != "X" || r.Findings[0].Level != Critical || r.Findings[0].Score != 9.8 {
		t.Errorf("two records: %+v", r.Findings)
	}
	undecided := strings.Replace(linuxAll, "ECOSYSTEM", "GIT", 1)
	r = report(t, match(t, db(map[string]string{"x.json": rec("X", day, "", undecided+","+linuxAll)})), Policy{})
	if len(r.Findings) != 1 || r.Findings[0].Undecided != "" {
		t.Errorf("two entries: %+v", r.Findings)
	}
}

// TestWaiverEndsAtMidnight in UTC after its last day.
func TestWaiverEndsAtMidnight(t *testing.T) {
	p := Policy{Waivers: []Waiver{{ID: "X", Reason: "reason", Expires: "2026-11-21"}}}
	midnight := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		now  time.Time
		want State
	}{{midnight.Add(-time.Nanosecond), Waived}, {midnight, Expired}} {
		f := Finding{ID: "X"}
		p.judge(&f, c.now, make([]int, 1))
		if f.State != c.want {
			t.Errorf("at %v: %s, want %s", c.now, f.State, c.want)
		}
	}
}

// TestFixedIsTheNextOne: of several fixes the lowest above the version counts.
func TestFixedIsTheNextOne(t *testing.T) {
	r := versionRange{Events: []event{{Introduced: "0"}, {Fixed: "1.2.0"}, {Introduced: "2.0.0"}, {Fixed: "2.5.0"}, {Introduced: "3.0.0"}, {Fixed: "3.1.0"}}}
	for v, want := range map[string]string{"1.0.0": "1.2.0", "2.1.0": "2.5.0", "3.0.0": "3.1.0", "3.1.0": ""} {
		if got := r.fixedAfter(v, orderOf(GoEcosystem)); got != want {
			t.Errorf("fixed after %s: %q, want %q", v, got, want)
		}
	}
}

func TestVersionsList(t *testing.T) {
	a := affected{Versions: []string{"1.0.0", "v1.1.0"}}
	for v, want := range map[string]bool{"1.0.0": true, "1.1.0": true, "1.2.0": false} {
		if got, err := a.judge(v, orderOf(GoEcosystem)); err != nil || got.affected != want {
			t.Errorf("%s: %+v, %v", v, got, err)
		}
	}
	for _, v := range []string{"", "(devel)", strings.Repeat("1", 1000)} {
		if got, err := a.judge(v, orderOf(GoEcosystem)); err != nil || !got.affected || got.why == "" {
			t.Errorf("version %.20q is decided: %+v, %v", v, got, err)
		}
	}
}

func TestGoVersion(t *testing.T) {
	for in, want := range map[string]string{"1.26.8": "1.26.8", "1.27rc1": "1.27.0-rc.1", "1.27beta2": "1.27.0-beta.2", "v1.2.3": "1.2.3", "": ""} {
		if got := goVersion(in); got != want {
			t.Errorf("goVersion(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestScores(t *testing.T) {
	for _, c := range []struct {
		typ, vector string
		score       float64
		level       Level
	}{
		{"CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P", 7.5, High},
		{"CVSS_V3", "CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, Medium},
		{"CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8, Critical},
		{"CVSS_V3", "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8, High},
		{"CVSS_V3", "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:N/A:N", 3.7, Low},
		{"CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0, None},
		{"CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N", 8.7, High},
		{"CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", 10, Critical},
	} {
		got, err := cvssScore(severity{c.typ, c.vector})
		if err != nil || got != c.score || scoreLevel(got) != c.level {
			t.Errorf("%s: %v %v, %v, want %v %v", c.vector, got, scoreLevel(got), err, c.score, c.level)
		}
	}
	for _, s := range []severity{{"CVSS_V3", "CVSS:3.1/AV:N"}, {"CVSS_V4", "x"}, {"Ubuntu", "high"}, {"CVSS_V3", strings.Repeat("x", 600)}} {
		if got, err := cvssScore(s); err == nil {
			t.Errorf("%+.40v has score %v", s, got)
		}
	}
}

func TestRate(t *testing.T) {
	const v2, v3 = "AV:N/AC:L/Au:N/C:P/I:P/A:P", "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:N/A:N"
	urgency := func(s string) affected { return affected{Ecosystem: json.RawMessage(`{"urgency":"` + s + `"}`)} }
	for _, c := range []struct {
		name  string
		r     record
		a     affected
		level Level
	}{
		{"nothing", record{}, affected{}, Unrated},
		{"not yet assigned", record{}, urgency("not yet assigned"), Unrated},
		{"urgency", record{}, urgency("medium**"), Medium},
		{"unimportant wins", record{Severity: []severity{{"CVSS_V3", v3}}}, urgency("unimportant"), None},
		{"score before urgency", record{Severity: []severity{{"CVSS_V3", v3}}}, urgency("high"), Low},
		{"version 3 before 2", record{Severity: []severity{{"CVSS_V2", v2}, {"CVSS_V3", v3}}}, affected{}, Low},
		{"version 3 before 2, other order", record{Severity: []severity{{"CVSS_V3", v3}, {"CVSS_V2", v2}}}, affected{}, Low},
		{"entry before record", record{Severity: []severity{{"CVSS_V2", v2}}}, affected{Severity: []severity{{"CVSS_V3", v3}}}, Low},
		{"broken vector", record{Severity: []severity{{"CVSS_V3", "CVSS:3.1/"}}}, affected{}, Unrated},
		{"word of the database", record{Database: json.RawMessage(`{"severity":"MODERATE"}`)}, affected{}, Medium},
		{"word that is none", record{Database: json.RawMessage(`{"severity":["HIGH"]}`)}, affected{}, Unrated},
	} {
		if got := rate(&c.r, &c.a); got.Level != c.level {
			t.Errorf("%s: %+v, want %v", c.name, got, c.level)
		}
	}
}

func TestTableHasNoControls(t *testing.T) {
	r := report(t, match(t, db(map[string]string{"x.json": strings.Replace(rec("X", "2026-11-01T00:00:00Z", "", linuxAll), `"X"`, `"X\u001b[2J"`, 1)})), Policy{})
	for _, row := range r.Rows() {
		if i := slices.IndexFunc(row, func(s string) bool { return strings.ContainsRune(s, 0x1b) }); i >= 0 {
			t.Errorf("row %q", row)
		}
	}
	if len(r.Findings) != 1 {
		t.Errorf("%d findings", len(r.Findings))
	}
}

// TestHostileSizes: names are bounded per record and hits in all.
func TestHostileSizes(t *testing.T) {
	aliases := `"aliases":[` + strings.Repeat(`"a",`, maxNames) + `"a"],`
	m := match(t, db(map[string]string{"x.json": rec("X", "2026-11-01T00:00:00Z", aliases, linuxAll)}))
	if m.broken != 1 || len(m.hits) != 0 {
		t.Errorf("%d problems, %d hits", m.broken, len(m.hits))
	}
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("%d.json", i)] = "{"
	}
	if m := match(t, db(files)); m.broken != 50 || len(m.problems) != maxProblems {
		t.Errorf("%d problems, %d named", m.broken, len(m.problems))
	}
	packages, _ := Packages(inventory())
	w := &matcher{m: &Matches{Database: Database{Ecosystems: map[string]int{}}}, byName: map[string][]*Package{"linux": {&packages[0]}}, found: map[string]found{}, kept: maxKept}
	w.record("x", []byte(rec("X", "2026-11-01T00:00:00Z", "", linuxAll)))
	if len(w.found) != 0 || w.kept <= maxKept {
		t.Errorf("hits beyond the bound are kept: %d", w.kept)
	}
	if _, err := parseRecord(make([]byte, maxRecord+1)); err == nil {
		t.Error("a record above the bound is read")
	}
}

func FuzzRecord(f *testing.F) {
	files, err := filepath.Glob("testdata/osv/*/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var small bytes.Buffer
		if err := json.Compact(&small, data); err != nil {
			f.Fatal(err)
		}
		f.Add(small.Bytes())
	}
	packages, _ := Packages(inventory())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Match(t.Context(), fstest.MapFS{"x.json": &fstest.MapFile{Data: data}}, packages)
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Report(testPolicy, now, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Marshal(); err != nil {
			t.Fatal(err)
		}
		for _, row := range r.Rows() {
			if len(row) != 6 {
				t.Fatal(row)
			}
		}
	})
}

func FuzzScore(f *testing.F) {
	f.Add("CVSS_V3", "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H")
	f.Add("CVSS_V3", "CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N")
	f.Add("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N")
	f.Add("CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P")
	f.Fuzz(func(t *testing.T, typ, vector string) {
		if score, err := cvssScore(severity{typ, vector}); err == nil && !(score >= 0 && score <= 10) {
			t.Fatalf("score %v", score)
		}
	})
}

// BenchmarkMatch has the shape of a real database: most records are about
// packages that the set does not have.
func BenchmarkMatch(b *testing.B) {
	dir := archive(b)
	packages, _ := Packages(inventory())
	template, err := os.ReadFile("testdata/osv/Debian/DEBIAN-CVE-2026-41001.json")
	if err != nil {
		b.Fatal(err)
	}
	const n = 5000
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := range n {
		e, _ := w.Create(fmt.Sprintf("%d.json", i))
		text := strings.ReplaceAll(string(template), `"linux"`, fmt.Sprintf(`"pkg%d"`, i))
		e.Write([]byte(strings.Replace(text, "41001", fmt.Sprint(i), 2)))
	}
	w.Close()
	dir["big.zip"] = &fstest.MapFile{Data: buf.Bytes()}
	b.ResetTimer()
	for b.Loop() {
		if _, err := Match(context.Background(), dir, packages); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
}
