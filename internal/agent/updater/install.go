package updater

import (
	"io"
	"os"

	"github.com/ingot-os/ingot/boot/slot"
)

// Install writes an image to a partition as an update does, and nothing else of
// one: whoever calls it has looked at the release. It is what benchmarks measure.
// What image does not give is zeros. An error wraps slot.ErrDigest when the disk
// does not hold the image then.
func Install(node string, w slot.Writing, image io.Reader) error {
	d, err := openDevice(node, w.Size, os.O_RDWR)
	if err != nil {
		return err
	}
	defer d.close()
	m := newMedium(d, nil)
	defer m.close()
	return w.Write(m, &padded{r: image, left: w.Size})
}
