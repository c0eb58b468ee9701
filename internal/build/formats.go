package build

import (
	"context"
	"strings"
)

// writeFormats writes the recipe's further outputs.
func (b *builder) writeFormats(_ context.Context, st *Step) error {
	b.draft.Formats = b.o.Recipe.Outputs
	st.Detail = strings.Join(b.o.Recipe.Outputs, ", ")
	return b.draft.WriteFormats(b.o.Workers)
}
