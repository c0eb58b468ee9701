package provenance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Bounds of a statement.
const (
	maxStatement   = 16 << 20 // bytes
	maxDescriptors = 100000
)

// FormatError says which field of a statement is wrong.
type FormatError struct {
	Field string // as in "subject[2].digest"; empty when the whole is no statement
	Msg   string
}

func (e *FormatError) Error() string {
	if e.Field == "" {
		return "provenance: " + e.Msg
	}
	return "provenance: " + e.Field + ": " + e.Msg
}

// Parse reads a statement of ingot's own build type. It is strict: what has an
// unknown field is not of this revision, and a verifier that skipped a
// parameter would have verified something else (SLSA v1, "Verifying artifacts").
func Parse(data []byte) (*Statement, error) {
	if len(data) > maxStatement {
		return nil, &FormatError{Msg: fmt.Sprintf("larger than %d bytes", maxStatement)}
	}
	if err := checkTypes(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	s := new(Statement)
	if err := dec.Decode(s); err != nil {
		return nil, &FormatError{Msg: fmt.Sprintf("offset %d: %s", dec.InputOffset(), strings.TrimPrefix(err.Error(), "json: "))}
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, &FormatError{Msg: fmt.Sprintf("offset %d: data after the statement", dec.InputOffset())}
	}
	return s, s.check()
}

// checkTypes looks at the types alone first, so that another predicate is
// called that, and not blamed for its fields.
func checkTypes(data []byte) error {
	var head struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Predicate     struct {
			BuildDefinition struct {
				BuildType string `json:"buildType"`
			} `json:"buildDefinition"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return &FormatError{Msg: strings.TrimPrefix(err.Error(), "json: ")}
	}
	for _, t := range []struct{ field, got, want string }{
		{"_type", head.Type, StatementType},
		{"predicateType", head.PredicateType, PredicateType},
		{"predicate.buildDefinition.buildType", head.Predicate.BuildDefinition.BuildType, BuildType},
	} {
		if t.got != t.want {
			return &FormatError{t.field, fmt.Sprintf("%.80q, want %q", t.got, t.want)}
		}
	}
	return nil
}

func (s *Statement) check() error {
	d, r := &s.Predicate.BuildDefinition, &s.Predicate.RunDetails
	if s.Type != StatementType || s.PredicateType != PredicateType || d.BuildType != BuildType {
		return &FormatError{"_type", "not a statement of ingot"}
	}
	if len(s.Subject) == 0 {
		return &FormatError{"subject", "none"}
	}
	if err := checkList("subject", s.Subject); err != nil {
		return err
	}
	if err := checkList("predicate.buildDefinition.resolvedDependencies", d.ResolvedDependencies); err != nil {
		return err
	}
	p := &d.ExternalParameters
	if err := checkList("predicate.buildDefinition.externalParameters", []Descriptor{p.Recipe, p.Lock}); err != nil {
		return err
	}
	switch {
	case p.Name == "" || p.Version == "" || p.Arch == "":
		return &FormatError{"predicate.buildDefinition.externalParameters", "name, version or arch is missing"}
	case !strings.Contains(r.Builder.ID, ":"):
		return &FormatError{"predicate.runDetails.builder.id", fmt.Sprintf("%.80q is no URI", r.Builder.ID)}
	case d.InternalParameters.Epoch < 0:
		return &FormatError{"predicate.buildDefinition.internalParameters.epoch", "negative"}
	}
	return s.checkTimes()
}

// checkTimes: both times are the epoch, or the statement is not reproducible.
func (s *Statement) checkTimes() error {
	want := time.Unix(s.Predicate.BuildDefinition.InternalParameters.Epoch, 0).UTC().Format(time.RFC3339)
	m := &s.Predicate.RunDetails.Metadata
	if m.StartedOn != want || m.FinishedOn != want {
		return &FormatError{"predicate.runDetails.metadata", fmt.Sprintf("times %.40q and %.40q, want the epoch %s", m.StartedOn, m.FinishedOn, want)}
	}
	return nil
}

func checkList(field string, list []Descriptor) error {
	if len(list) > maxDescriptors {
		return &FormatError{field, fmt.Sprintf("more than %d", maxDescriptors)}
	}
	seen := map[string]bool{}
	for i, d := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if d.Name == "" || seen[d.Name] {
			return &FormatError{at + ".name", fmt.Sprintf("%.80q is empty or there twice", d.Name)}
		}
		seen[d.Name] = true
		if h := d.Digest["sha256"]; len(h) != 64 || strings.Trim(h, "0123456789abcdef") != "" {
			return &FormatError{at + ".digest", fmt.Sprintf("sha256 %.80q is not 64 lower-case hex digits", h)}
		}
	}
	return nil
}

// Subjects gives the digests of the outputs by their names.
func (s *Statement) Subjects() map[string]string {
	m := map[string]string{}
	for _, d := range s.Subject {
		m[d.Name] = d.Digest["sha256"]
	}
	return m
}

// CheckOutputs compares the subjects with files: each subject must be among
// them with its digest. Files beyond the subjects are allowed, because the
// statement cannot name itself or the manifest.
func (s *Statement) CheckOutputs(files map[string]string) error {
	for _, d := range s.Subject {
		switch got, ok := files[d.Name]; {
		case !ok:
			return fmt.Errorf("check provenance: output %s is missing", d.Name)
		case got != d.Digest["sha256"]:
			return fmt.Errorf("check provenance: output %s: expected sha256 %s, got %s", d.Name, d.Digest["sha256"], got)
		}
	}
	return nil
}
