package attest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCodesAreDocumented: each code of the source has a meaning, and the table
// of docs/verdicts.md has that row.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range []string{"reason.go", "enrol.go"} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bCode += "([a-z.-]+)"`).FindAllStringSubmatch(string(source), -1) {
			n++
			code := Code(m[1])
			if row := fmt.Sprintf("| `%s` | %s |", code, Codes[code]); Codes[code] == "" || !strings.Contains(string(page), row) {
				t.Errorf("docs/verdicts.md has no row %s", row)
			}
		}
	}
	if n != len(Codes) {
		t.Errorf("%d codes in the source, %d with a meaning", n, len(Codes))
	}
}
