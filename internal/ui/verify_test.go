package ui

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/verify"
)

// TestReportWords: every reason has words here and a row in the documentation.
func TestReportWords(t *testing.T) {
	doc, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range verify.Codes {
		if codeWords[c] == "" {
			t.Errorf("%s has no words", c)
		}
		if !strings.Contains(string(doc), "\n| `"+string(c)+"`") && !strings.Contains(string(doc), ", `"+string(c)+"` |") {
			t.Errorf("docs/verify.md has no row %s", c)
		}
	}
	if len(codeWords) != len(verify.Codes) || len(whyWords) != len(verify.Whys) {
		t.Errorf("words for %d codes and %d whys, want %d and %d", len(codeWords), len(whyWords), len(verify.Codes), len(verify.Whys))
	}
	for _, w := range verify.Whys {
		if whyWords[w] == "" {
			t.Errorf("%s has no words", w)
		}
	}
	for name := range compared {
		if !strings.Contains(string(doc), "\n| `"+string(name)+"` |") {
			t.Errorf("docs/verify.md has no row %s", name)
		}
	}
}

// TestReport prints a verdict with its table, and a refusal as an error.
func TestReport(t *testing.T) {
	var out, errs bytes.Buffer
	u := New(&out, &errs)
	u.Terminal = true
	good := &verify.Report{
		Verdict: verify.Verified, Name: "hello", Version: "1.0.0", Signers: []string{"0123456789abcdef"},
		Checks: []*verify.Check{
			{Name: verify.CheckSignature, State: verify.Passed, Count: 1}, {Name: verify.CheckTable, State: verify.Passed, Count: 7},
			{Name: verify.CheckRoot, State: verify.Skipped, Why: verify.WhyNoRoot},
		},
		NotChecked: []verify.Note{{Check: verify.CheckPartitions, What: "slot-b", Why: verify.WhyOtherSlot, Got: "hello-2.0.0"}},
	}
	if err := u.Report(good); err != nil {
		t.Error(err)
	}
	want := `hello-1.0.0: verified, signed by key 0123456789ab
check            result  compared
signature        ok      1 key
partition-table  ok      7 entries in both copies
root             -       the release has no root payload
not checked: partitions, slot-b: it holds another release (hello-2.0.0)
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	off := int64(7)
	bad := &verify.Report{Path: "x", Verdict: verify.Refused}
	for range 7 {
		bad.Refusals = append(bad.Refusals, verify.Refusal{
			Code: verify.PartitionDigest, Place: verify.Place{File: "x.img", Path: []string{"esp", "boot sector"}, Offset: &off}, Want: "a", Got: "b",
		})
	}
	var refused *Error
	if err := u.Report(bad); !errors.As(err, &refused) || refused.Code != CodeRefused || refused.Hint == "" {
		t.Fatalf("refused: %v", err)
	}
	lines := strings.Split(refused.Error(), "\n")
	if lines[0] != "x is refused" || lines[1] != "  x.img → esp → boot sector, byte 7: the content differs [partition.digest]: expected a, got b" ||
		lines[len(lines)-1] != "  and 2 more: --json lists all" {
		t.Errorf("got %q", lines)
	}
}
