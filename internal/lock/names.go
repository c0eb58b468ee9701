package lock

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// NameError says that Update has a name that the recipe has no input of.
type NameError struct {
	Name  string
	Known []string // sorted
	Near  string   // "" when nothing looks alike
}

// Error implements error.
func (e *NameError) Error() string {
	return fmt.Sprintf("update %q: no such input; there are %s", e.Name, strings.Join(e.Known, ", "))
}

// Hint is the name that was probably meant.
func (e *NameError) Hint() string {
	if e.Near == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", e.Near)
}

func (s *resolver) checkName(name string) error {
	known := []string{UpdateAll, UpdateEpoch, UpdateIngot}
	if len(s.o.Recipe.Go) > 0 || len(s.o.Recipe.URoot) > 0 {
		known = append(known, UpdateGo)
	}
	for _, w := range s.wants {
		known = append(known, w.Name)
		if group, _, ok := strings.Cut(w.Name, "/"); ok {
			known = append(known, group)
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	if slices.Contains(known, name) {
		return nil
	}
	return &NameError{Name: name, Known: known, Near: nearest(name, known)}
}

// nearest prefers a name that contains what was written: "modules" means "go/modules".
func nearest(name string, known []string) string {
	for _, k := range known {
		if len(name) >= 3 && strings.Contains(k, name) {
			return k
		}
	}
	return strictyaml.Nearest(name, known)
}
