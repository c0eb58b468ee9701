package imageset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/sparse"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// ErrChanged is wrapped by the error of Load for a set that is not what its
// manifest says.
var ErrChanged = errors.New("the image set differs from its manifest")

// loader opens a finished set. Its files stay open as long as the draft reads
// from them.
type loader struct {
	set     *release.Set
	files   []*os.File
	checked map[string]fs.FileInfo // files that are what the manifest says
}

// Load starts a draft in dir from a finished set, whose files are compared
// with its manifest first. Everything but the outputs to come is linked or
// copied into dir. done closes the set and must be called last.
func Load(set *release.Set, dir string) (d *Draft, done func(), err error) {
	l := &loader{set: set, checked: map[string]fs.FileInfo{}}
	if d, err = l.load(dir); err != nil {
		l.close()
		return nil, func() {}, fmt.Errorf("load image set %s: %w", set.Dir, err)
	}
	return d, l.close, nil
}

func (l *loader) close() {
	for _, f := range l.files {
		f.Close()
	}
}

func (l *loader) load(dir string) (*Draft, error) {
	for _, f := range l.set.Manifest.Files {
		if err := l.check(f); err != nil {
			return nil, err
		}
	}
	d := &Draft{Dir: dir, Manifest: *l.set.Manifest}
	d.Manifest.Files = slices.Clone(d.Manifest.Files)
	if err := l.bring(d, ".efi"); err != nil {
		return nil, err
	}
	var err error
	if d.UKI, err = NewBootFile(d.path(".efi")); err != nil {
		return nil, err
	}
	if err := l.openRoot(d); err != nil {
		return nil, err
	}
	if err := l.openImage(d); err != nil {
		return nil, err
	}
	if err := l.openPolicies(d); err != nil {
		return nil, err
	}
	return d, l.openDocuments(d)
}

func (l *loader) path(name string) string { return filepath.Join(l.set.Dir, name) }

// check compares a file with the manifest. A link is refused: the new set would
// have the link, which may lead anywhere by then.
func (l *loader) check(want release.File) error {
	f, info, err := regular.OpenHere(l.path(want.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := hashFile(f, info.Size())
	if err == nil && (sum != want.SHA256 || info.Size() != want.Size) {
		err = fmt.Errorf("%s: %w: expected sha256 %s, got %s", want.Name, ErrChanged, want.SHA256, sum)
	}
	l.checked[want.Name] = info
	return err
}

// open opens a file that was checked, and is still the same.
func (l *loader) open(path string) (*os.File, error) {
	f, info, err := regular.OpenHere(path)
	if err == nil && !os.SameFile(info, l.checked[filepath.Base(path)]) {
		f.Close()
		err = fmt.Errorf("%s: %w: it was exchanged just now", filepath.Base(path), ErrChanged)
	}
	return f, err
}

// read returns a document of the set.
func (l *loader) read(name string) ([]byte, error) {
	f, err := l.open(l.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size := l.checked[name].Size(); size > maxDocument {
		return nil, fmt.Errorf("%s: %d bytes, the limit is %d", name, size, maxDocument)
	}
	return io.ReadAll(f)
}

// maxDocument bounds a document of a set in bytes: it is read into memory.
const maxDocument = 256 << 20

// bring links a file of the old set into the new one, or copies it.
func (l *loader) bring(d *Draft, suffix string) error {
	from, to := l.path(d.Manifest.Stem()+suffix), d.path(suffix)
	in, err := l.open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if os.Link(from, to) == nil {
		info, err := os.Lstat(to)
		if err == nil && !os.SameFile(info, l.checked[filepath.Base(from)]) {
			err = fmt.Errorf("%s: %w: it was exchanged just now", filepath.Base(from), ErrChanged)
		}
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

func (l *loader) openRoot(d *Draft) error {
	if d.Manifest.Root == nil {
		return nil
	}
	if err := l.bring(d, ".root"); err != nil {
		return err
	}
	f, err := os.Open(d.path(".root"))
	if err != nil {
		return err
	}
	l.files = append(l.files, f)
	info, err := f.Stat()
	d.Root = tree.Section{R: f, N: info.Size()}
	return err
}

// openPolicies reads the policy signatures that there are.
func (l *loader) openPolicies(d *Draft) error {
	if len(d.Manifest.PolicyKey) == 0 {
		return nil
	}
	name := d.Manifest.Stem() + release.PolicySuffix
	if l.checked[name] == nil {
		return fmt.Errorf("%s: %w: the set has a policy key and no such file", name, ErrChanged)
	}
	data, err := l.read(name)
	if err != nil {
		return err
	}
	f, err := policy.ParseFile(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.policies = &f
	return nil
}

// openImage reads layout, ESP and slot back from the disk.
func (l *loader) openImage(d *Draft) error {
	f, err := l.open(l.set.Image())
	if err != nil {
		return err
	}
	l.files = append(l.files, f)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if d.Layout, err = partition.Read(f, info.Size()); err != nil {
		return err
	}
	if d.ESP, err = l.volume(d, f, partition.ESP); err != nil {
		return err
	}
	p, _ := d.Layout.Part(partition.SlotA)
	if data, err := sparse.Data(f, p.Start, p.Size); err != nil || len(data) == 0 {
		return err // systemd-boot has the UKI on the ESP
	}
	d.Slot, err = l.volume(d, f, partition.SlotA)
	return err
}

// volume reads a FAT partition; what is the UKI there will be the new UKI.
func (l *loader) volume(d *Draft, f *os.File, role string) (*tree.Tree, error) {
	p, ok := d.Layout.Part(role)
	if !ok {
		return nil, fmt.Errorf("no partition %s", role)
	}
	v, err := fat.Open(p.Section(f), p.Size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	t, err := v.Tree()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	for _, n := range t.Nodes() {
		if !n.Mode.IsRegular() || n.Size() != d.UKI.Size() {
			continue
		}
		sum, err := digest(n.Content)
		if err != nil {
			return nil, err
		}
		if sum == d.UKI.digest {
			n.Content = d.UKI
		}
	}
	return t, nil
}

// openDocuments makes the documents of the new set out of those of the old one.
func (l *loader) openDocuments(d *Draft) error {
	bom, err := l.read(sbom.CycloneDXName)
	if err != nil {
		return err
	}
	inventory, err := sbom.Parse(bom)
	if err != nil {
		return err
	}
	d.Inventory = func(boot []sbom.Content) (*sbom.Inventory, error) { return inventory, inventory.Update(boot) }
	data, err := l.read(provenance.FileName)
	if err != nil {
		return err
	}
	statement, err := provenance.Parse(data)
	if err != nil {
		return err
	}
	d.Statement = func(outputs []release.File) (*provenance.Statement, error) {
		statement.SetOutputs(outputs)
		return statement, nil
	}
	for _, f := range d.Manifest.Files {
		d.SPDX = d.SPDX || f.Name == sbom.SPDXName
		for _, format := range Formats {
			if strings.TrimPrefix(f.Name, d.Manifest.Stem()) == format.Suffix {
				d.Formats = append(d.Formats, format.Name)
			}
		}
	}
	return nil
}
