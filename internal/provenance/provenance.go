// Package provenance says how an image set was made: an in-toto Statement v1
// whose predicate is SLSA Provenance v1. It is plain JSON, to be wrapped in a
// DSSE envelope of payload type application/vnd.in-toto+json.
//
// A build is a function of its lock, so the statement is one too: it holds no
// clock (both times are the lock's epoch), no host name and no user. An
// independent rebuild of the same lock gives the same bytes under its own
// builder id. buildType BuildType means: externalParameters name the recipe and
// the lock by digest, resolvedDependencies list every input of the lock, and
// `ingot build` of that lock gives the subjects.
//
//	data, err := provenance.New(provenance.Input{Manifest: m, Lock: l, Outputs: files}).Marshal()
package provenance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/jsondoc"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
)

// Type URIs of the document.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://slsa.dev/provenance/v1"
	BuildType     = "https://github.com/ingot-os/ingot/build/v1"

	// DefaultBuilder is the builder id of a build that names none: it claims
	// nothing about the machine.
	DefaultBuilder = "https://github.com/ingot-os/ingot/builder/local"
)

// FileName is the name of the statement inside an image set.
const FileName = "provenance.json"

// Statement is an in-toto Statement v1 with a SLSA v1 predicate.
type Statement struct {
	Type          string       `json:"_type"`
	Subject       []Descriptor `json:"subject"` // outputs, sorted by name
	PredicateType string       `json:"predicateType"`
	Predicate     Predicate    `json:"predicate"`
}

// Descriptor is an in-toto ResourceDescriptor v1. Digest maps algorithms to
// hex; ingot writes sha256 only.
type Descriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Predicate is SLSA Provenance v1.
type Predicate struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition says what was asked for.
type BuildDefinition struct {
	BuildType            string             `json:"buildType"`
	ExternalParameters   ExternalParameters `json:"externalParameters"`
	InternalParameters   InternalParameters `json:"internalParameters"`
	ResolvedDependencies []Descriptor       `json:"resolvedDependencies"`
}

// ExternalParameters are what whoever asked for the build chose.
type ExternalParameters struct {
	Name    string     `json:"name"`
	Version string     `json:"version"`
	Arch    string     `json:"arch"`
	Recipe  Descriptor `json:"recipe"` // digest of the recipe's canonical form
	Lock    Descriptor `json:"lock"`   // digest of the lock, which the machine reports as its build
}

// InternalParameters are what the lock fixes beside the inputs.
type InternalParameters struct {
	Epoch       int64 `json:"epoch"`       // Unix seconds
	ImageFormat int   `json:"imageFormat"` // revision of the bytes that ingot writes
}

// RunDetails says who built.
type RunDetails struct {
	Builder  Builder  `json:"builder"`
	Metadata Metadata `json:"metadata"`
}

// Builder is the builder and the versions of its tools: "ingot", "go".
type Builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

// Metadata has the epoch for both times, in RFC 3339, and the lock's digest for
// the invocation.
type Metadata struct {
	InvocationID string `json:"invocationId"`
	StartedOn    string `json:"startedOn"`
	FinishedOn   string `json:"finishedOn"`
}

// Input is what New works on.
type Input struct {
	Manifest *release.Manifest // Build, Epoch and Tools are read
	Lock     *lock.Lock
	Outputs  []release.File // every output but the statement and what names it
	Builder  string         // URI; empty means DefaultBuilder
}

// New describes a build.
func New(in Input) *Statement {
	m, l := in.Manifest, in.Lock
	at := time.Unix(l.Epoch, 0).UTC().Format(time.RFC3339)
	s := &Statement{Type: StatementType, PredicateType: PredicateType}
	s.SetOutputs(in.Outputs)
	s.Predicate.BuildDefinition = BuildDefinition{
		BuildType: BuildType,
		ExternalParameters: ExternalParameters{
			Name: l.Name, Version: l.Version, Arch: l.Arch,
			Recipe: Descriptor{Name: "appliance.yaml", Digest: sha256(l.Recipe)},
			Lock:   Descriptor{Name: "appliance.lock", Digest: sha256(m.Build)},
		},
		InternalParameters:   InternalParameters{Epoch: l.Epoch, ImageFormat: l.Ingot.Format},
		ResolvedDependencies: dependencies(l),
	}
	s.Predicate.RunDetails = RunDetails{
		Builder:  Builder{ID: in.Builder, Version: map[string]string{"ingot": m.Tools.Ingot}},
		Metadata: Metadata{InvocationID: "sha256:" + m.Build, StartedOn: at, FinishedOn: at},
	}
	if in.Builder == "" {
		s.Predicate.RunDetails.Builder.ID = DefaultBuilder
	}
	if l.Go != "" {
		s.Predicate.RunDetails.Builder.Version["go"] = l.Go
	}
	return s
}

// SetOutputs makes the outputs the subjects of the statement.
func (s *Statement) SetOutputs(files []release.File) {
	s.Subject = nil
	for _, f := range files {
		s.Subject = append(s.Subject, Descriptor{Name: f.Name, Digest: sha256(f.SHA256)})
	}
	slices.SortFunc(s.Subject, func(a, b Descriptor) int { return strings.Compare(a.Name, b.Name) })
}

func sha256(hex string) map[string]string { return map[string]string{"sha256": hex} }

// dependencies lists ingot-init, every input and every blob of an image, sorted
// by name.
func dependencies(l *lock.Lock) []Descriptor {
	list := []Descriptor{{Name: "ingot-init", Digest: sha256(l.Ingot.Init), Annotations: map[string]string{"kind": "ingot"}}}
	for i := range l.Inputs {
		in := &l.Inputs[i]
		d := Descriptor{Name: in.Name, URI: sbom.PURL(in), Digest: sha256(in.SHA256), Annotations: map[string]string{"kind": string(in.Kind)}}
		if in.Version != "" {
			d.Annotations["version"] = in.Version
		}
		list = append(list, d)
		for n, b := range in.Blobs {
			list = append(list, Descriptor{
				Name: fmt.Sprintf("%s/blob-%03d", in.Name, n), Digest: sha256(b.SHA256), Annotations: map[string]string{"mediaType": b.MediaType},
			})
		}
	}
	slices.SortFunc(list, func(a, b Descriptor) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Marshal checks the statement and gives its JSON form, indented, with a final
// line break.
func (s *Statement) Marshal() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode provenance: %w", err)
	}
	b, err := jsondoc.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode provenance: %w", err)
	}
	return b, nil
}
