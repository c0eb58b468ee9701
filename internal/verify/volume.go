package verify

import (
	"io"

	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// rebuilt is a volume as it should be.
type rebuilt struct {
	image    *fat.Image
	skeleton io.ReaderAt // the volume without the contents of its files
	// damaged is a file of the volume of which there is no intact copy; image is
	// nil then, because there would be nothing to compare it with.
	damaged string
}

// rebuild plans a boot volume out of the SBOM's list of its files; nil when
// there is none. Where a file lies follows from the sizes of all files, so the
// contents are looked for there, whatever the volume itself says.
func (v *verifier) rebuild(p *partFacts) (*rebuilt, error) {
	data, _, err := v.document(sbom.CycloneDXName)
	if err != nil || data == nil {
		return nil, err
	}
	list, err := sbom.Parse(data)
	if err != nil {
		return nil, nil // checkSBOM has said so
	}
	t, sums := new(tree.Tree), map[string]string{}
	for i := range list.Components {
		for _, f := range list.Components[i].Files {
			if f.Partition == p.Role && t.Add(tree.Node{Path: f.Path, Mode: 0o644, Content: hole(f.Size)}) != nil {
				return nil, nil
			}
			sums[f.Path] = f.SHA256
		}
	}
	o := v.volumeOptions(p)
	image, err := fat.Plan(t, o)
	if err != nil || t.Len() <= 1 {
		return nil, nil
	}
	skeleton := pages{}
	if err := image.Write(skeleton); err != nil {
		return nil, err
	}
	r := &rebuilt{skeleton: skeleton}
	if err := v.fill(r, p, t, sums); err != nil || r.damaged != "" {
		return r, err
	}
	r.image, err = fat.Plan(t, o)
	return r, err
}

// fill gives the files of a planned volume their contents: the boot file, and
// for others what lies in the partition where they should be.
func (v *verifier) fill(r *rebuilt, p *partFacts, t *tree.Tree, sums map[string]string) error {
	volume, err := fat.Open(r.skeleton, p.Size)
	if err != nil {
		return err
	}
	places, err := volume.Tree()
	if err != nil {
		return err
	}
	uki, _ := v.fileEntry(".efi")
	for _, n := range places.Nodes() {
		s, ok := n.Content.(tree.Section)
		if !ok {
			continue
		}
		if v.uki != nil && sums[n.Path] == uki.SHA256 {
			t.Get(n.Path).Content = tree.Section{R: v.uki.r, N: v.uki.size}
			continue
		}
		there := tree.Section{R: v.section(p.Part), Off: s.Off, N: s.N}
		sum, err := sumReader(v.ctx, readerOf(there))
		if err != nil {
			return err
		}
		if sum != sums[n.Path] {
			r.damaged = n.Path
		}
		t.Get(n.Path).Content = there
	}
	return nil
}

// volumeOptions are those that package imageset writes ESP and slots with.
func (v *verifier) volumeOptions(p *partFacts) fat.Options {
	label, role := "SLOT", "slot"
	if p.Role == partition.ESP {
		label, role = "ESP", partition.ESP
	}
	return fat.Options{Size: p.Size, Epoch: v.m.Epoch, Label: label, Serial: partition.FATSerial(v.m.Name, v.m.Disk.Layout, role)}
}

// hole is a file of so many zeros.
type hole int64

// Size implements tree.Blob.
func (h hole) Size() int64 { return int64(h) }

// Open implements tree.Blob.
func (h hole) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeroReader{}, int64(h))), nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// pages is a sparse file in memory: 4096 bytes each, zeros where there is none.
type pages map[int64]*[4096]byte

// WriteAt implements io.WriterAt.
func (m pages) WriteAt(b []byte, off int64) (int, error) {
	for at := 0; at < len(b); {
		page, in := (off+int64(at))/4096, (off+int64(at))%4096
		n := min(len(b)-at, int(4096-in))
		if m[page] == nil && firstNonzero(b[at:at+n]) >= 0 {
			m[page] = new([4096]byte)
		}
		if m[page] != nil {
			copy(m[page][in:], b[at:at+n])
		}
		at += n
	}
	return len(b), nil
}

// ReadAt implements io.ReaderAt.
func (m pages) ReadAt(b []byte, off int64) (int, error) {
	for at := 0; at < len(b); {
		page, in := (off+int64(at))/4096, (off+int64(at))%4096
		n := min(len(b)-at, int(4096-in))
		if m[page] != nil {
			copy(b[at:at+n], m[page][in:])
		} else {
			clear(b[at : at+n])
		}
		at += n
	}
	return len(b), nil
}

// nameInVolume names what is at an offset of a FAT volume: a structure, or a
// file and the offset in it. A file of the boot file's size is the boot file.
func nameInVolume(r io.ReaderAt, size, off, ukiSize int64) (name []string, inFile int64, isUKI bool) {
	volume, err := fat.Open(r, size)
	if err != nil {
		return nil, 0, false
	}
	i := volume.Info()
	ss := int64(i.SectorSize)
	reserved, table := int64(i.ReservedSectors)*ss, int64(i.FATSectors)*ss
	switch {
	case off < reserved:
		return []string{reservedSector(off / ss)}, 0, false
	case off < reserved+table:
		return []string{"first FAT"}, 0, false
	case off < reserved+int64(i.FATs)*table:
		return []string{"second FAT"}, 0, false
	}
	t, err := volume.Tree()
	if err != nil {
		return nil, 0, false
	}
	cluster := int64(i.ClusterSize)
	for _, n := range t.Nodes() {
		s, ok := n.Content.(tree.Section)
		if !ok || off < s.Off || off >= s.Off+(s.N+cluster-1)/cluster*cluster {
			continue
		}
		if off >= s.Off+s.N {
			return []string{n.Path, "slack behind the file"}, 0, false
		}
		return []string{n.Path}, off - s.Off, s.N == ukiSize
	}
	return []string{"directories and free clusters"}, 0, false
}

// reservedSector names a sector before the FATs (fatgen103, section 3 and 5).
func reservedSector(n int64) string {
	switch n {
	case 0:
		return "boot sector"
	case 1:
		return "FSInfo"
	case 6:
		return "backup boot sector"
	case 7:
		return "backup FSInfo"
	}
	return "reserved sectors"
}
