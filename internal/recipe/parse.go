package recipe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Error and Errors are the findings in a recipe: file:line:column, cause and hint.
type (
	Error  = strictyaml.Error
	Errors = strictyaml.Errors
)

// Load reads a recipe and checks it, and that the local files and directories
// it names exist. An error in the recipe is of type Errors; that of reading
// the file is as os.ReadFile gives it.
func Load(path string) (*Recipe, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, errs := parse(path, data)
	if r != nil {
		errs = append(errs, checkLocal(r)...)
		errs.Sort()
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

// Parse reads a recipe from memory, applies the defaults and validates it. It
// touches no file: name is the path the bytes came from and gives Path and Dir.
// The error is of type Errors and holds every finding.
func Parse(name string, data []byte) (*Recipe, error) {
	r, errs := parse(name, data)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

// parse returns what could be read beside the findings, so that more rules can look at it.
func parse(name string, data []byte) (*Recipe, Errors) {
	doc, err := strictyaml.Parse(name, data, strictyaml.Limits{})
	if err != nil {
		return nil, err.(Errors)
	}
	r := &Recipe{Path: name, Dir: filepath.Dir(name), doc: doc}
	errs := doc.Decode(r, Keys())
	shortForms(errs)
	r.applyDefaults()
	errs = append(errs, fresh(errs, Validate(r))...)
	errs.Sort()
	return r, errs
}

// shortForms hints at the mapping that people shorten to its one usual value.
func shortForms(errs Errors) {
	for i := range errs {
		switch e := &errs[i]; {
		case e.Hint != "":
		case e.Path == "trust":
			e.Hint = "write trust: {keys: ./trust}"
		case e.Path == "scan":
			e.Hint = "write scan: {threshold: high}"
		}
	}
}

// fresh drops the findings of later rules about values that already have one,
// in them or around them: a missing name is reported once, not again by every
// rule that uses it.
func fresh(first, later Errors) Errors {
	seen := map[string]bool{}
	for _, e := range first {
		for p := e.Path; p != ""; p = parentPath(p) {
			seen[p] = true
		}
	}
	return slices.DeleteFunc(later, func(e Error) bool { return seen[e.Path] })
}

func parentPath(p string) string {
	return p[:max(strings.LastIndexByte(p, '.'), strings.LastIndexByte(p, '['), 0)]
}
