package imageset

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/partition/tree"
)

// Authority makes, or brings along, the signatures of a set.
type Authority interface {
	// Boot returns the PKCS #7 signature of a boot file: package authenticode.
	Boot(file string, req authenticode.Request) ([]byte, error)
	// Policy returns the policy key's signature of an approval.
	Policy(Approval) ([]byte, error)
	// Manifest returns the DSSE envelope of a manifest; nil leaves it unsigned.
	Manifest(payload []byte) ([]byte, error)
}

// maxBootFile bounds boot files beside the UKI, which are signed in memory.
const maxBootFile = 64 << 20

// BootFiles names the boot files that firmware would refuse for want of a
// signature: the UKI and unsigned PE images of the ESP. What somebody else has
// signed stays as it is.
func (d *Draft) BootFiles() ([]Unsigned, error) {
	var list []Unsigned
	uki, err := unsigned(d.UKI)
	if err != nil {
		return nil, fmt.Errorf("%s.efi: %w", d.Manifest.Stem(), err)
	}
	if uki != nil {
		list = append(list, Unsigned{Name: d.Manifest.Stem() + ".efi", Request: *uki})
	}
	for _, n := range d.ESP.Nodes() {
		if !n.Mode.IsRegular() || n.Content == nil || n.Content == tree.Blob(d.UKI) || !isPE(n.Content) {
			continue
		}
		req, err := unsigned(n.Content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Path, err)
		}
		if req != nil {
			list = append(list, Unsigned{Name: n.Path, Request: *req})
		}
	}
	return list, nil
}

// Unsigned is a boot file that wants a signature: the UKI by its file name in
// the set, others by their path on the ESP.
type Unsigned struct {
	Name    string
	Request authenticode.Request
}

// Sign puts the authority's signatures into all BootFiles. The digests of the
// files change with it; what their signatures cover does not.
func (d *Draft) Sign(a Authority) error {
	list, err := d.BootFiles()
	if err != nil {
		return fmt.Errorf("sign %w", err)
	}
	for _, u := range list {
		p7, err := a.Boot(u.Name, u.Request)
		if err == nil {
			err = d.attach(u.Name, p7)
		}
		if err != nil {
			return fmt.Errorf("sign %s: %w", u.Name, err)
		}
	}
	return nil
}

func (d *Draft) attach(name string, p7 []byte) error {
	if name == d.Manifest.Stem()+".efi" {
		return d.UKI.attach(p7)
	}
	n := d.ESP.Get(name)
	image, err := readAll(n.Content)
	if err != nil {
		return err
	}
	var signed bytes.Buffer
	if err := authenticode.Attach(&signed, bytes.NewReader(image), int64(len(image)), p7); err != nil {
		return err
	}
	n.Content = tree.Bytes(signed.Bytes())
	return nil
}

// attach replaces the file by its signed form at once.
func (b *BootFile) attach(p7 []byte) error {
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	temp, err := os.OpenFile(b.path+".signed", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if err := authenticode.Attach(temp, f, b.size, p7); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), b.path); err != nil {
		return err
	}
	return b.refresh()
}

// unsigned returns what to sign of an image, nil when it has a signature.
func unsigned(b tree.Blob) (*authenticode.Request, error) {
	r, size, done, err := readerAt(b)
	if err != nil {
		return nil, err
	}
	defer done()
	have, err := authenticode.Signatures(r, size)
	if err != nil || len(have) > 0 {
		return nil, err
	}
	req, err := authenticode.NewRequest(r, size)
	return &req, err
}

func readerAt(b tree.Blob) (io.ReaderAt, int64, func(), error) {
	if f, ok := b.(*BootFile); ok {
		r, err := os.Open(f.path)
		return r, f.size, func() { r.Close() }, err
	}
	image, err := readAll(b)
	return bytes.NewReader(image), int64(len(image)), func() {}, err
}

func readAll(b tree.Blob) ([]byte, error) {
	if b.Size() > maxBootFile {
		return nil, fmt.Errorf("%d bytes are more than %d", b.Size(), maxBootFile)
	}
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// isPE looks for the two letters that all EFI programs begin with.
func isPE(b tree.Blob) bool {
	r, err := b.Open()
	if err != nil {
		return false
	}
	defer r.Close()
	head := make([]byte, 2)
	_, err = io.ReadFull(r, head)
	return err == nil && string(head) == "MZ"
}
