package unpack

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const text = "the same text in every form, "

// packed returns the text, repeated, in a form.
func packed(t testing.TB, form Form) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch form {
	case Gzip:
		w = gzip.NewWriter(&out)
	case XZ:
		w, err = xz.NewWriter(&out)
	case Zstd:
		w, err = zstd.NewWriter(&out)
	default:
		return []byte(strings.Repeat(text, 1000))
	}
	if err == nil {
		_, err = io.WriteString(w, strings.Repeat(text, 1000))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAutoReadsEveryForm(t *testing.T) {
	for _, form := range []Form{Plain, Gzip, XZ, Zstd} {
		b := packed(t, form)
		if got := Detect(b); got != form {
			t.Errorf("%q detected as %q", form, got)
		}
		r, err := Auto(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%q: %v", form, err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != strings.Repeat(text, 1000) {
			t.Errorf("%q: %d bytes, %v", form, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%q: close: %v", form, err)
		}
	}
}

func TestCutStreamsAreErrors(t *testing.T) {
	for _, form := range []Form{Gzip, XZ, Zstd} {
		b := packed(t, form)
		r, err := Auto(bytes.NewReader(b[:len(b)-6]))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil {
			t.Errorf("%q: no error", form)
		}
	}
}

func TestUnknownForm(t *testing.T) {
	if _, err := Reader(strings.NewReader(""), "lz4"); err == nil || !strings.Contains(err.Error(), "lz4") {
		t.Errorf("got %v", err)
	}
}

// TestXZDictionaryIsBounded raises the dictionary size of a good file: byte 12
// is the block header's size, 13 its flags, 14..16 the LZMA2 filter.
func TestXZDictionaryIsBounded(t *testing.T) {
	b := packed(t, XZ)
	at := bytes.IndexByte(b[12:], 0x21) + 12
	if b[at+1] != 1 {
		t.Fatalf("the filter is not where the specification has it: % x", b[:24])
	}
	for _, tc := range []struct {
		code byte
		ok   bool
	}{{30, true}, {31, false}, {40, false}, {41, false}} { // 128 MiB, 192 MiB, 4 GiB - 1, reserved
		c := bytes.Clone(b)
		c[at+2] = tc.code
		_, err := Reader(bytes.NewReader(c), XZ)
		refused := err != nil && (strings.Contains(err.Error(), "dictionary") || strings.Contains(err.Error(), "dict"))
		if refused == tc.ok {
			t.Errorf("code %d: %v, want refused %v", tc.code, err, !tc.ok)
		}
	}
}

func FuzzAuto(f *testing.F) {
	for _, form := range []Form{Plain, Gzip, XZ, Zstd} {
		f.Add(packed(f, form))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Auto(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer r.Close()
		n, _ := io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // any error but a panic
		_ = n
	})
}
