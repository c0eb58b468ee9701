package jsondoc_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/jsondoc"
)

type doc struct {
	B string `json:"b"`
	A []int  `json:"a,omitempty"`
}

func TestMarshal(t *testing.T) {
	got, err := jsondoc.Marshal(doc{"<&>", []int{1}})
	if want := "{\n  \"b\": \"<&>\",\n  \"a\": [\n    1\n  ]\n}\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	var back doc
	if err := jsondoc.Unmarshal(got, &back); err != nil || back.B != "<&>" {
		t.Errorf("got %+v, %v", back, err)
	}
	if _, err := jsondoc.Marshal(math.NaN()); err == nil {
		t.Error("NaN is encoded")
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for text, want := range map[string]string{`{"c": 1}`: `unknown field "c"`, `{`: "unexpected", `{}{}`: jsondoc.ErrMore.Error(), `{} x`: jsondoc.ErrMore.Error()} {
		if err := jsondoc.Unmarshal([]byte(text), new(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if err := jsondoc.Unmarshal([]byte("{}\n "), new(doc)); err != nil && !errors.Is(err, jsondoc.ErrMore) {
		t.Error(err)
	}
	if err := jsondoc.Unmarshal([]byte(" {}\n "), new(doc)); err != nil {
		t.Errorf("spaces: %v", err)
	}
}
