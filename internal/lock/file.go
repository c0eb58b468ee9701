package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/jsondoc"
)

// The revisions this program reads and writes.
const (
	// Format is the only value of Lock.Format.
	Format = 1
	// ImageFormat is the revision of the bytes that a build makes of one lock; a
	// change of layout or of any writer's output raises it (S12).
	ImageFormat = 1
)

// maxLock bounds a lock file in bytes; a directory of 100,000 files takes 12 MB.
const maxLock = 64 << 20

// FormatError says where a lock file is malformed.
type FormatError struct {
	Path         string
	Line, Column int // from 1; 0 when the place is not known
	Msg          string
}

// Error implements error.
func (e *FormatError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Path, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, e.Msg)
}

// Read reads a lock file.
func Read(path string) (*Lock, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLock+1))
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	return Parse(path, b)
}

// Parse parses the content of a lock file; path is for errors only. It is
// strict: an unknown field or format, a malformed digest, a duplicate name or
// anything after the object is refused.
func Parse(path string, b []byte) (*Lock, error) {
	if len(b) > maxLock {
		return nil, &FormatError{Path: path, Msg: fmt.Sprintf("larger than %d bytes", maxLock)}
	}
	if err := checkFormat(path, b); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	l := &Lock{}
	if err := d.Decode(l); err != nil {
		return nil, syntaxError(path, b, d.InputOffset(), err)
	}
	if rest := bytes.TrimSpace(b[d.InputOffset():]); len(rest) != 0 {
		return nil, at(path, b, int64(len(b)-len(rest)), "data after the lock")
	}
	if err := l.check(); err != nil {
		return nil, &FormatError{Path: path, Msg: err.Error()}
	}
	return l, nil
}

// checkFormat looks at the format alone first, so that a lock of a later
// revision is called that, and not blamed for its new fields.
func checkFormat(path string, b []byte) error {
	var head struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return syntaxError(path, b, 0, err)
	}
	switch {
	case head.Format == nil:
		return &FormatError{Path: path, Msg: "field format is missing: not an appliance.lock"}
	case *head.Format != Format:
		return &FormatError{Path: path, Msg: fmt.Sprintf("format %d, this ingot reads %d", *head.Format, Format)}
	}
	return nil
}

// syntaxError gives the errors of encoding/json a place.
func syntaxError(path string, b []byte, offset int64, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	msg := strings.TrimPrefix(err.Error(), "json: ")
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
		msg = fmt.Sprintf("field %s: a JSON %s where %s belongs", kind.Field, kind.Value, kind.Type)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		offset, msg = int64(len(b)), "unexpected end"
	case strings.HasPrefix(msg, "unknown field "):
		if i := bytes.Index(b, []byte(strings.TrimPrefix(msg, "unknown field "))); i >= 0 {
			offset = int64(i)
		}
	}
	return at(path, b, offset, msg)
}

func at(path string, b []byte, offset int64, msg string) error {
	before := b[:min(max(offset, 0), int64(len(b)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return &FormatError{Path: path, Line: line, Column: column, Msg: msg}
}

// check validates what the types cannot say.
func (l *Lock) check() error {
	names := map[string]bool{}
	for i := range l.Inputs {
		in := &l.Inputs[i]
		if names[in.Name] {
			return fmt.Errorf("input %q is there twice", in.Name)
		}
		names[in.Name] = true
		if err := in.check(); err != nil {
			return fmt.Errorf("input %q: %w", in.Name, err)
		}
	}
	return nil
}

func (in *Input) check() error {
	if in.Name == "" {
		return errors.New("without a name")
	}
	if !isSHA256(in.SHA256) {
		return fmt.Errorf("sha256 %q is not 64 lower-case hex digits", in.SHA256)
	}
	if in.Size < 0 {
		return fmt.Errorf("size %d", in.Size)
	}
	for _, b := range in.Blobs {
		if !isSHA256(b.SHA256) || b.Size < 0 {
			return fmt.Errorf("blob %q of %d bytes", b.SHA256, b.Size)
		}
	}
	switch in.Kind {
	case KindDeb:
		return in.checkDeb()
	case KindDir, KindGoDir:
		return in.checkFiles()
	case KindFile, KindURL, KindOCI, KindGoModule:
		return nil
	}
	return fmt.Errorf("unknown kind %q", in.Kind)
}

func (in *Input) checkDeb() error {
	if in.Package == "" || in.Version == "" {
		return errors.New("a deb needs package and version")
	}
	if !isBelow(in.Path) {
		return fmt.Errorf("path %q leaves the archive", in.Path)
	}
	if name, version, _ := strings.Cut(in.Source, " "); in.Source != "" && (name == "" || version == "" || strings.Contains(version, " ")) {
		return fmt.Errorf("source %q: want a package and a version", in.Source)
	}
	return nil
}

func (in *Input) checkFiles() error {
	for p := range in.Files {
		if !isBelow(p) && in.Kind == KindDir {
			return fmt.Errorf("file %q leaves the directory", p)
		}
	}
	return nil
}

func isBelow(p string) bool { return filepath.IsLocal(filepath.FromSlash(p)) }

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Bytes returns the one text form of a lock: JSON indented by two spaces, inputs
// sorted by name, a final line break.
func (l *Lock) Bytes() ([]byte, error) {
	c := *l
	c.Inputs = slices.Clone(l.Inputs)
	slices.SortFunc(c.Inputs, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	b, err := jsondoc.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return b, nil
}

// Write replaces the lock file in one step; a reader sees the old or the new one.
func (l *Lock) Write(path string) error {
	b, err := l.Bytes()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".appliance.lock-")
	if err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	defer os.Remove(f.Name())
	if err := writeSync(f, b); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

func writeSync(f *os.File, b []byte) error {
	_, err := f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
