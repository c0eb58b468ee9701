package fat

import "fmt"

// FormatError says which field of a volume does not hold, and where.
type FormatError struct {
	Off   int64  // byte offset in the volume
	Field string // name after the specification, such as BPB_BytsPerSec
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("fat: %s at byte %d: %s", e.Field, e.Off, e.Msg)
}

func bad(off int64, field, format string, args ...any) error {
	return &FormatError{Off: off, Field: field, Msg: fmt.Sprintf(format, args...)}
}

// SpaceError is returned by Plan for a tree that is too big for the volume.
type SpaceError struct {
	Need int64 // bytes of clusters that the tree's files and directories take
	Have int64 // bytes of clusters in the volume
}

// Error implements error.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("plan fat32: contents need %d bytes, the volume has %d", e.Need, e.Have)
}
