package build

import (
	"context"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/release"
)

// writeFormats writes the recipe's further outputs.
func (b *builder) writeFormats(_ context.Context, st *Step) error {
	before := slices.Clone(b.draft.Manifest.Files)
	b.draft.Formats = b.o.Recipe.Outputs
	st.Detail = strings.Join(b.o.Recipe.Outputs, ", ")
	if err := b.draft.WriteFormats(b.o.Workers); err != nil {
		return err
	}
	for _, f := range b.draft.Manifest.Files {
		if !slices.ContainsFunc(before, func(old release.File) bool { return old.Name == f.Name }) {
			st.made(f.SHA256)
		}
	}
	return nil
}
