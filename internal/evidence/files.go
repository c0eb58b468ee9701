package evidence

import (
	"fmt"
	"io"
	"os"

	"github.com/ingot-os/ingot/attest"
)

// Read reads an evidence document.
func Read(path string) (*attest.Evidence, error) {
	b, err := readSmall(path, attest.MaxEvidence)
	if err != nil {
		return nil, err
	}
	e, err := attest.ParseEvidence(b)
	if err != nil {
		return nil, hinted("ingot attest collect writes evidence", "%s: %w", path, err)
	}
	return e, nil
}

// readSmall reads a file of at most limit bytes. The files of the kernel say
// that they have none.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("read %s: more than %d bytes", path, limit)
	}
	return b, err
}
