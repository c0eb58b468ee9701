package gpt

import (
	"errors"
	"fmt"
)

// ErrNoTable is wrapped by Read when neither copy has the GPT signature at
// either sector size.
var ErrNoTable = errors.New("no GUID partition table")

// FormatError is a table that breaks the specification.
type FormatError struct {
	Off   int64  // byte offset on the disk
	Field string // name as in UEFI tables 5.5 and 5.6
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("gpt: %s at offset %d: %s", e.Field, e.Off, e.Msg)
}
