package slot

import (
	"os"
	"strings"
	"testing"
)

// docs/slots.md names every phase, event and cause there is.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/slots.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	var words []string
	for p := range phases {
		words = append(words, "| "+p.String()+" |")
	}
	for c := Panic; c < causes; c++ {
		words = append(words, "| `"+c.String()+"` |")
	}
	for _, k := range kindNames {
		words = append(words, "`"+k+"`")
	}
	for _, w := range words {
		if !strings.Contains(page, w) {
			t.Errorf("docs/slots.md does not have %q", w)
		}
	}
}
