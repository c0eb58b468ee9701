package verify

import (
	"fmt"

	"github.com/ingot-os/ingot/internal/provenance"
)

// checkProvenance compares the statement with the manifest: its subjects are
// all other files, and it speaks of the same build of the same inputs.
func (v *verifier) checkProvenance(c *Check) error {
	data, why, err := v.document(provenance.FileName)
	if err != nil {
		return err
	}
	if data == nil {
		c.skip(why)
		return nil
	}
	s, err := provenance.Parse(data)
	if err != nil {
		c.malformed(ProvenanceMalformed, at(provenance.FileName), err)
		return nil
	}
	v.judgeOutputs(c, s)
	v.judgeBuild(c, s)
	return nil
}

func (v *verifier) judgeOutputs(c *Check, s *provenance.Statement) {
	subjects := s.Subjects()
	for _, f := range v.m.Files {
		if f.Name == provenance.FileName { // a statement cannot name its own digest
			continue
		}
		c.Count++
		c.differ(ProvenanceOutputs, at(provenance.FileName, "subject", f.Name), f.SHA256, subjects[f.Name])
		delete(subjects, f.Name)
	}
	for _, name := range sorted(subjects) {
		c.refuse(ProvenanceOutputs, at(provenance.FileName, "subject", name), "no such file", subjects[name])
	}
}

func (v *verifier) judgeBuild(c *Check, s *provenance.Statement) {
	m, d := v.m, &s.Predicate.BuildDefinition
	p, tools := &d.ExternalParameters, s.Predicate.RunDetails.Builder.Version
	deps := map[string]string{}
	for _, r := range d.ResolvedDependencies {
		deps[r.Name] = r.Digest["sha256"]
	}
	for _, f := range []struct{ field, want, got string }{
		{"name", m.Name, p.Name}, {"version", m.Version, p.Version}, {"arch", m.Arch, p.Arch},
		{"lock", m.Build, p.Lock.Digest["sha256"]}, {"invocationId", "sha256:" + m.Build, s.Predicate.RunDetails.Metadata.InvocationID},
		{"epoch", fmt.Sprint(m.Epoch), fmt.Sprint(d.InternalParameters.Epoch)},
		{"builder.version.ingot", m.Tools.Ingot, tools["ingot"]}, {"builder.version.go", m.Tools.Go, tools["go"]},
		{"resolvedDependencies.ingot-init", m.Tools.Init, deps["ingot-init"]},
	} {
		c.differ(ProvenanceIdentity, at(provenance.FileName, f.field), f.want, f.got)
	}
	for _, in := range m.Inputs {
		c.differ(ProvenanceIdentity, at(provenance.FileName, "resolvedDependencies", in.Name), in.SHA256, deps[in.Name])
	}
}
