package attest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// exportTo names a file for the cases of this package, so that another verifier
// can be asked the same (go run ./internal/bench -peers).
const exportTo = "INGOT_EXPORT_CASES"

// TestExportCases writes every forgery of the research's list, and the genuine
// boot it was made of, as evidence with what its quote must carry.
func TestExportCases(t *testing.T) {
	path := os.Getenv(exportTo)
	if path == "" {
		t.Skip("no file for the cases: set " + exportTo)
	}
	type item struct {
		ID        string    `json:"id"`
		Evidence  *Evidence `json:"evidence"`
		ExtraData []byte    `json:"extraData"`
	}
	c := genuine(t).build()
	items := []item{{"genuine", c.Evidence, c.Challenge.ExtraData()}}
	for _, r := range append(quoteCases, logCases...) {
		f := genuine(t)
		r.edit(f)
		if c := f.build(); strings.ContainsAny(r.id[:1], "QEF") && strings.ContainsAny(r.id[1:2], "0123") && c.Evidence != nil {
			items = append(items, item{r.id, c.Evidence, c.Challenge.ExtraData()})
		}
	}
	b, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
