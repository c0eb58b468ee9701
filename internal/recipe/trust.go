package recipe

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/testmark"
	"github.com/ingot-os/ingot/internal/trust"
)

// files are the single files of the keys.
func (t *Trust) files() trust.Files {
	if t.Keys != "" {
		f := trust.Exported()
		f.Threshold = t.Threshold
		return f
	}
	return trust.Files{PK: t.PK, KEK: t.KEK, DB: t.DB, Image: t.Image, Threshold: t.Threshold, Fleet: t.Fleet, Operator: t.Operator, Server: t.Server, Policy: t.Policy, Owner: t.Owner}
}

// TrustFiles lists the files that trust: names one by one, relative to the
// recipe, each once; none when it names a directory.
func (r *Recipe) TrustFiles() []string {
	if r.Trust == nil || r.Trust.Keys != "" {
		return nil
	}
	var out []string
	for _, name := range r.Trust.files().All() {
		if name = path.Clean(name); !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// ReadTrust reads the public keys of a recipe that has some. read gives the
// content of a file, by its name in the directory of trust.keys or relative to
// the recipe.
func (r *Recipe) ReadTrust(read func(name string) ([]byte, error)) (*trust.Anchors, error) {
	a, problems := trust.Read(r.Trust.files(), read)
	if err := r.trustErrors(problems).Err(); err != nil {
		return nil, err
	}
	return a, nil
}

// trustErrors gives problems their places in the recipe: of single files the
// item, of a directory its one key.
func (r *Recipe) trustErrors(problems trust.Problems) (errs Errors) {
	for _, p := range problems {
		at, text := "trust."+p.Field, "trust."+p.Error()
		if dir := r.Trust.Keys; dir != "" && p.Field != "threshold" {
			at, text = "trust.keys", fmt.Sprintf("trust.keys: %s: %s: %s", dir, p.Field, p.Msg)
			if p.Field == "keys" {
				text = fmt.Sprintf("trust.keys: %s: %s", dir, p.Msg)
			}
			if p.File != "" {
				text = fmt.Sprintf("trust.keys: %s %s", path.Join(dir, p.File), p.Msg)
			}
		}
		errs = append(errs, r.finding(at, p.Hint, "%s", text))
	}
	return errs
}

// LocalTrust reads the public keys of a recipe where they lie now; nil when it
// names none.
func (r *Recipe) LocalTrust() (*trust.Anchors, error) {
	if r.Trust == nil {
		return nil, nil
	}
	a, problems := r.readLocalTrust()
	if err := r.trustErrors(problems).Err(); err != nil {
		return nil, err
	}
	return a, nil
}

// readLocalTrust reads the keys where they lie now.
func (r *Recipe) readLocalTrust() (*trust.Anchors, trust.Problems) {
	if r.Trust.Keys != "" {
		return trust.ReadDir(os.DirFS(r.local(r.Trust.Keys)), r.Trust.Threshold)
	}
	return trust.Read(r.Trust.files(), func(name string) ([]byte, error) {
		data, err := regular.Read(r.local(name), trust.MaxFile)
		for _, known := range []error{regular.ErrKind, regular.ErrSize} {
			if errors.Is(err, known) {
				return nil, known // the path is said by the problem
			}
		}
		return data, err
	})
}

func (c *checker) localTrust() {
	t := c.r.Trust
	if t == nil || t.Keys == "" && len(t.files().All()) == 0 {
		return
	}
	if t.Keys != "" && !c.statDir("trust.keys", t.Keys) {
		return
	}
	_, problems := c.r.readLocalTrust()
	c.errs = append(c.errs, c.r.trustErrors(problems)...)
}

// scan checks the waivers that one key's description cannot.
func (c *checker) scan() {
	first := map[[2]string]int{}
	for i, w := range c.r.Scan.Waivers {
		at := fmt.Sprintf("scan.waivers[%d]", i)
		if _, err := time.Parse(time.DateOnly, w.Expires); err != nil && w.Expires != "" {
			c.add(at+".expires", "want a day such as 2026-12-31", "%s.expires is %q: no day of the calendar", at, w.Expires)
		}
		if old, ok := first[[2]string{w.ID, w.Package}]; ok {
			c.add(at, "remove one", "%s waives %s again, after scan.waivers[%d]", at, w.ID, old)
		}
		first[[2]string{w.ID, w.Package}] = i
	}
}

// expired finds certificates whose time has passed: firmware minds no dates,
// but connections and people do. Which time it is, a fact says.
func (e *examiner) expired() {
	if e.r.Trust == nil {
		return
	}
	a, problems := e.r.readLocalTrust()
	if len(problems) > 0 {
		return // localTrust has said so
	}
	if a.Test() || e.r.marksTestKeys() {
		e.warn("trust", "make keys for production without --test", "trust names TEST keys: whoever has them can sign for these machines")
	}
	if e.facts.Now.IsZero() {
		e.skip("certificates are valid", "no time is given")
		return
	}
	e.errs = append(e.errs, e.r.trustErrors(a.Expired(e.facts.Now))...)
}

// marksTestKeys looks at public keys, which have no name that could say TEST: at the text
// in their files.
func (r *Recipe) marksTestKeys() bool {
	files := r.Trust.files()
	if r.Trust.Keys != "" {
		files = trust.Exported()
		for i, name := range files.Image {
			files.Image[i] = path.Join(r.Trust.Keys, name)
		}
		files.Policy = path.Join(r.Trust.Keys, files.Policy)
	}
	return slices.ContainsFunc(append(slices.Clone(files.Image), files.Policy), func(name string) bool {
		if name == "" {
			return false
		}
		data, err := regular.Read(r.local(name), trust.MaxFile)
		return err == nil && testmark.Any(data)
	})
}

// waivers warns of those that have ended.
func (e *examiner) waivers() {
	for i, w := range e.r.Scan.Waivers {
		day, err := time.Parse(time.DateOnly, w.Expires)
		if err == nil && !e.facts.Now.IsZero() && !e.facts.Now.Before(day.AddDate(0, 0, 1)) {
			at := fmt.Sprintf("scan.waivers[%d].expires", i)
			e.warn(at, "remove the waiver, or look at the vulnerability again", "the waiver of %s ended on %s: ingot scan does not count it", w.ID, w.Expires)
		}
	}
}
