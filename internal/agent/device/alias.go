package device

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"
)

// Aliases is depmod's modules.alias: shell patterns of modaliases. Patterns are
// kept by the part before the first colon ("pci", "virtio"), which never holds
// a wildcard in practice, so a lookup on a server kernel with 20,000 aliases
// compares with those of one bus.
type Aliases struct {
	byBus map[string][]alias
	any   []alias // patterns whose first part has a wildcard or is missing
}

type alias struct{ pattern, module string }

// ReadAliases reads "alias PATTERN MODULE" lines; others are skipped.
func ReadAliases(r io.Reader) (*Aliases, error) {
	a := &Aliases{byBus: map[string][]alias{}}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) != 3 || f[0] != "alias" {
			continue
		}
		bus, _, ok := strings.Cut(f[1], ":")
		if !ok || strings.ContainsAny(bus, "*?[") {
			a.any = append(a.any, alias{f[1], f[2]})
			continue
		}
		a.byBus[bus] = append(a.byBus[bus], alias{f[1], f[2]})
	}
	if err := sc.Err(); err != nil {
		return a, fmt.Errorf("read module aliases: %w", err)
	}
	return a, nil
}

// Match returns the modules whose pattern matches, in file order, each once.
func (a *Aliases) Match(modalias string) []string {
	var out []string
	seen := map[string]bool{}
	bus, _, _ := strings.Cut(modalias, ":")
	for _, set := range [][]alias{a.byBus[bus], a.any} {
		for _, p := range set {
			// path.Match differs from fnmatch only at '/', which no modalias holds.
			if ok, _ := path.Match(p.pattern, modalias); ok && !seen[p.module] {
				seen[p.module] = true
				out = append(out, p.module)
			}
		}
	}
	return out
}
