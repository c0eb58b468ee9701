package measure

import (
	"io"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
)

// PCR11 is the SHA-256 value that the stub of a UKI of size bytes leaves in PCR
// 11, however it is started.
func PCR11(uki io.ReaderAt, size int64) (value [32]byte, err error) {
	image, err := predict.Open(uki, size, pcr.SHA256)
	if err != nil {
		return value, err
	}
	values, err := image.PCR11()
	if err != nil {
		return value, err
	}
	return [32]byte(values[pcr.SHA256]), nil
}
