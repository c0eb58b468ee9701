package reproduce

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/release"
)

// Mismatch is one thing that is not what the provenance of the set names.
type Mismatch struct {
	What     string `json:"what"` // "recipe", "input kernel", "ingot"
	Released string `json:"released,omitempty"`
	Here     string `json:"here,omitempty"`
}

func (m Mismatch) String() string {
	switch {
	case m.Released == "":
		return fmt.Sprintf("%s: %s, the release has none", m.What, m.Here)
	case m.Here == "":
		return fmt.Sprintf("%s: the release has %s, here is none", m.What, m.Released)
	}
	return fmt.Sprintf("%s: the release has %s, here is %s", m.What, m.Released, m.Here)
}

// MismatchError says that a set cannot be made again out of what is here.
type MismatchError struct {
	Set  string // NAME-VERSION
	List []Mismatch
	tool bool // ingot itself is another
}

// Error lists what differs, one a line.
func (e *MismatchError) Error() string {
	text := fmt.Sprintf("reproduce %s: this is not what it was made of", e.Set)
	for _, m := range e.List {
		text += "\n  " + m.String()
	}
	return text
}

// Hint says what to type next.
func (e *MismatchError) Hint() string {
	if e.tool {
		return "take the ingot that made the release: ingot " + e.List[0].Released
	}
	return "check out the recipe and the lock of " + e.Set + ", as they were committed, and name the recipe: ingot reproduce DIR -f RECIPE"
}

// maxListed bounds the inputs that an error lists.
const maxListed = 8

// Check compares recipe, lock and this ingot with the provenance of the set,
// before any work is done. Differences are a *MismatchError.
func Check(o Options) error {
	s, err := readProvenance(o.Set)
	if err != nil {
		return err
	}
	m := o.Set.Manifest
	d := &s.Predicate.BuildDefinition
	if got := d.ExternalParameters.Lock.Digest["sha256"]; got != m.Build {
		return fmt.Errorf("reproduce %s: %s names the lock %s, %s names %s: the set was changed", m.Stem(), provenance.FileName, short(got), release.ManifestName, short(m.Build))
	}
	e := &MismatchError{Set: m.Stem()}
	e.checkTool(s, o)
	if len(e.List) > 0 {
		e.tool = true
		return e
	}
	e.compare("recipe", "sha256 "+short(d.ExternalParameters.Recipe.Digest["sha256"]), "sha256 "+short(recipe.Digest(o.Recipe)))
	data, err := o.Lock.Bytes()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	build := hex.EncodeToString(sum[:])
	if build != m.Build {
		e.checkLock(s, o, build)
	}
	if len(e.List) > 0 {
		return e
	}
	return nil
}

func readProvenance(set *release.Set) (*provenance.Statement, error) {
	data, err := os.ReadFile(filepath.Join(set.Dir, provenance.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reproduce %s: the set has no %s, so nothing says what it was made of", set.Manifest.Stem(), provenance.FileName)
	}
	if err != nil {
		return nil, err
	}
	return provenance.Parse(data)
}

func (e *MismatchError) compare(what, released, here string) {
	if released != here {
		e.List = append(e.List, Mismatch{what, released, here})
	}
}

// checkTool compares ingot, its image format and the ingot-init it carries.
func (e *MismatchError) checkTool(s *provenance.Statement, o Options) {
	e.compare("ingot", s.Predicate.RunDetails.Builder.Version["ingot"], o.Version)
	e.compare("image format", fmt.Sprint(s.Predicate.BuildDefinition.InternalParameters.ImageFormat), fmt.Sprint(lock.ImageFormat))
	here, err := initbin.Digest(initbin.For(o.Recipe.Attest, o.Recipe.Data.Encrypt, o.Recipe.Update), o.Set.Manifest.Arch)
	if err != nil {
		here = err.Error()
	}
	for _, d := range s.Predicate.BuildDefinition.ResolvedDependencies {
		if d.Name == "ingot-init" && d.Digest["sha256"] != here {
			e.List = append(e.List, Mismatch{"ingot-init", short(d.Digest["sha256"]), short(here)})
		}
	}
}

// checkLock names what differs between the lock of the release and the one that
// is here, as far as the provenance has it: name, version, epoch, inputs.
func (e *MismatchError) checkLock(s *provenance.Statement, o Options, build string) {
	p := &s.Predicate.BuildDefinition.ExternalParameters
	e.compare("lock", "sha256 "+short(o.Set.Manifest.Build), "sha256 "+short(build))
	e.compare("version", p.Name+" "+p.Version+" "+p.Arch, o.Lock.Name+" "+o.Lock.Version+" "+o.Lock.Arch)
	e.compare("epoch", fmt.Sprint(s.Predicate.BuildDefinition.InternalParameters.Epoch), fmt.Sprint(o.Lock.Epoch))
	e.compare("Go toolchain", s.Predicate.RunDetails.Builder.Version["go"], o.Lock.Go)
	released := map[string]string{}
	for _, d := range s.Predicate.BuildDefinition.ResolvedDependencies {
		if d.Name != "ingot-init" && !strings.Contains(d.Name, "/blob-") {
			released[d.Name] = version(d.Annotations["version"], d.Digest["sha256"])
		}
	}
	for _, in := range o.Lock.Inputs {
		e.compare("input "+in.Name, released[in.Name], version(in.Version, in.SHA256))
		delete(released, in.Name)
	}
	for _, d := range s.Predicate.BuildDefinition.ResolvedDependencies {
		if _, ok := released[d.Name]; ok {
			e.compare("input "+d.Name, released[d.Name], "")
		}
	}
	if len(e.List) > maxListed {
		e.List = e.List[:maxListed]
	}
}

func version(v, sha string) string { return strings.TrimSpace(v + " sha256 " + short(sha)) }

func short(digest string) string { return digest[:min(12, len(digest))] }
