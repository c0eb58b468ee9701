package pemfile_test

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/pemfile"
)

func block(kind, text string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(text)}))
}

func TestBlocks(t *testing.T) {
	a, b := block("A", strings.Repeat("first ", 20)), block("B", "second")
	for _, c := range []struct {
		name, data string
		want       string // types of the blocks, or words of the error
	}{
		{"none", "", ""}, {"DER", "\x30\x82", ""}, {"one", a, "A"}, {"two", a + b, "A B"},
		{"with text", "subject=x\n" + a + "\nissuer=y\n" + b + "end\n", "A B"},
		{"Windows", strings.ReplaceAll(a+b, "\n", "\r\n"), "A B"},
		{"cut off", a + b[:len(b)-9], "line 6: "}, {"first cut off", a[:60] + "\n" + b, "line 1: "},
		{"damaged", a + strings.Replace(b, "c2V", "!!!", 1), "line 6: "}, {"damaged first", strings.Replace(a, "Zmly", "!!!!", 1) + b, "line 1: "},
		{"no end", "x\n-----BEGIN A-----\nAAAA\n", "line 2: "}, {"other end", strings.Replace(b, "END B", "END A", 1), "line 1: "},
	} {
		blocks, err := pemfile.Blocks([]byte(c.data))
		var types []string
		for _, x := range blocks {
			types = append(types, x.Type)
		}
		got := strings.Join(types, " ")
		if err != nil {
			got = err.Error()
		}
		if strings.HasPrefix(c.want, "line") != (err != nil) || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if x, err := pemfile.One([]byte(a)); err != nil || x.Type != "A" {
		t.Errorf("One: %v, %v", x, err)
	}
	if x, err := pemfile.One([]byte(a + b)); err == nil {
		t.Errorf("One of two: %v", x)
	}
}

// FuzzBlocks: no block is lost, whatever is around it.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte(block("A", "x")+"text"), []byte(""))
	f.Add([]byte("-----BEGIN A-----\n"), []byte("-----END A-----"))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		data := bytes.Join([][]byte{before, []byte("\n" + block("KEY", "content")), after}, nil)
		blocks, err := pemfile.Blocks(data)
		if err != nil {
			return
		}
		for _, b := range blocks {
			if b.Type == "KEY" && string(b.Bytes) == "content" {
				return
			}
		}
		t.Errorf("lost in %q", data)
	})
}
