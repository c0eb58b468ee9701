package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/vuln"
)

type scanCmd struct {
	Path string `arg:"" help:"Image set (OUT/NAME-VERSION)." type:"existingdir"`
	DB   string `required:"" name:"db" placeholder:"DIR" help:"Directory with vulnerability records: the all.zip of Debian and of Go that osv.dev publishes, or single records." type:"existingdir"`
	File string `short:"f" name:"file" placeholder:"RECIPE" help:"Recipe whose scan: says what is accepted (default: appliance.yaml here, when it is that of the image; without one every finding fails)." type:"path"`
	All  bool   `help:"List findings below the threshold, too."`
}

// Run matches the SBOM of an image set against a database on disk, without
// network, and judges by the policy of the recipe. Exit code 3 says that a
// finding fails the release, 1 that something could not be checked.
func (c *scanCmd) Run(v *verb) error {
	set, err := openSet(c.Path)
	if err != nil {
		return err
	}
	inventory, err := readSBOM(set)
	if err != nil {
		return err
	}
	policy, from, err := c.policy(v, set.Manifest)
	if err != nil {
		return err
	}
	packages, unscanned := vuln.Packages(inventory)
	matches, err := vuln.Match(v.ctx, os.DirFS(c.DB), packages)
	if err != nil {
		return err
	}
	report, err := matches.Report(policy, time.Now(), unscanned)
	if err != nil {
		return err
	}
	if v.ui.JSON {
		err = v.ui.PrintJSON(report)
	} else {
		err = c.print(v, set.Manifest, report, from)
	}
	if err == nil && report.Outcome != vuln.Clean {
		return ui.Exit(report.Outcome.ExitCode())
	}
	return err
}

// readSBOM reads the list of components and compares it with the manifest: a
// shorter list would have fewer vulnerabilities.
func readSBOM(set *release.Set) (*sbom.Inventory, error) {
	data, err := os.ReadFile(filepath.Join(set.Dir, sbom.CycloneDXName))
	if err != nil {
		return nil, &ui.Error{Err: err, Hint: "the SBOM is part of an image set: build it again"}
	}
	sum := sha256.Sum256(data)
	for _, f := range set.Manifest.Files {
		if f.Name == sbom.CycloneDXName && f.SHA256 == hex.EncodeToString(sum[:]) {
			return sbom.Parse(data)
		}
	}
	return nil, &ui.Error{Code: ui.CodeRefused, Err: fmt.Errorf("read %s: it is not the one that the manifest names", sbom.CycloneDXName), Hint: "the set was changed: ingot verify " + set.Dir}
}

// policy is that of the recipe, with its path; the strictest without one. It
// needs nothing else of the recipe, so nothing else has to be there.
func (c *scanCmd) policy(v *verb, m *release.Manifest) (p vuln.Policy, from string, err error) {
	from = c.File
	if from == "" {
		from = "appliance.yaml"
	} else if info, err := os.Stat(from); err == nil && info.IsDir() {
		from = filepath.Join(from, "appliance.yaml")
	}
	data, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) && c.File == "" {
		return p, "", nil
	}
	if err != nil {
		return p, "", &ui.Error{Err: err, Hint: "-f names the recipe of the image"}
	}
	r, err := recipe.Parse(from, data)
	if err != nil && c.File == "" { // nobody named it, so it may have nothing to do with the image
		v.ui.Warn("%s here cannot be read, so every finding fails: ingot check says why; -f names a recipe", from)
		return p, "", nil
	}
	if err != nil {
		return p, "", err
	}
	if c.File == "" && r.Name != m.Name {
		v.ui.Say("%s is the recipe of %s, not of %s: every finding fails; -f names a recipe", from, r.Name, m.Name)
		return p, "", nil
	}
	p, err = policyOf(r.Scan)
	return p, from, err
}

func policyOf(s recipe.Scan) (vuln.Policy, error) {
	p := vuln.Policy{AcceptUnrated: s.AcceptUnrated, AcceptUnfixed: s.AcceptUnfixed}
	if s.Threshold != "" {
		var err error
		if p.Threshold, err = vuln.ParseLevel(s.Threshold); err != nil {
			return p, err
		}
	}
	for _, w := range s.Waivers {
		p.Waivers = append(p.Waivers, vuln.Waiver(w))
	}
	return p, p.Check()
}

func (c *scanCmd) print(v *verb, m *release.Manifest, r *vuln.Report, from string) error {
	all, count := r.Rows(), map[vuln.State]int{}
	var rows [][]string
	for i, f := range r.Findings {
		count[f.State]++
		if c.All || f.State != vuln.Below {
			rows = append(rows, all[i+1])
		}
	}
	if len(rows) > 0 {
		if err := v.ui.Table(all[0], rows); err != nil {
			return err
		}
	}
	for _, p := range r.Problems {
		v.ui.Warn("%s", p)
	}
	if more := r.ProblemCount - len(r.Problems); more > 0 {
		v.ui.Warn("%d more problems", more)
	}
	if len(r.Unscanned) > 0 {
		v.ui.Say("not looked up, for no database knows files and images: %s", strings.Join(r.Unscanned, ", "))
	}
	for _, id := range r.UnusedWaivers {
		v.ui.Say("the waiver of %s is not needed", id)
	}
	if err := v.ui.Print("%s %s: %s: %s", m.Name, m.Version, r.Outcome, counts(count)); err != nil {
		return err
	}
	if from == "" {
		from = "no recipe, every finding fails"
	}
	v.ui.Say("%s, %s, newest of %s; policy: %s", ui.Plural(r.Packages, "package"), ui.Plural(r.Database.Records, "record"), newest(r.Database), from)
	switch r.Outcome {
	case vuln.Refused:
		next(v, "update what is fixed (ingot lock --update NAME), or accept it for a time under scan: in the recipe")
	case vuln.Incomplete:
		next(v, "put the all.zip of Debian and of Go from osv.dev into %s, each in a directory of its own", c.DB)
	}
	return nil
}

func counts(n map[vuln.State]int) string {
	failing := n[vuln.Open] + n[vuln.Expired]
	return fmt.Sprintf("%s, %d waived, %d below the threshold", ui.Plural(failing, "failing finding"), n[vuln.Waived], n[vuln.Below])
}

func newest(d vuln.Database) string {
	if day, _, ok := strings.Cut(d.Newest, "T"); ok {
		return day
	}
	return "no day"
}
