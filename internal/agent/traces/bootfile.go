package traces

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // the digest of a boot file
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// WasLost says that the slot on trial was started and that its init never ran: the
// other slot runs, and the journal is as it was before the reset.
func WasLost(r slot.Record, running slot.Slot) bool {
	return r.Phase == slot.Armed && running != slot.None && running == r.Good && (r.Means == slot.Firmware || r.Launched)
}

// BootFile is a slot that was armed and of which nothing was seen.
type BootFile struct {
	Slot    io.ReaderAt // the partition
	Size    int64       // of the partition, in bytes
	Path    string      // of the boot file: "EFI/BOOT/BOOTX64.EFI"
	Machine uint16      // of the COFF header, as pe.MachineAMD64
	// SecureBoot is on: DB and DBX are then the contents of these variables.
	SecureBoot bool
	DB, DBX    []byte
}

// Check says why firmware does not start the file: CorruptPE or WrongSignature;
// nil when there is no reason to be seen. What cannot be read is no reason: it
// would reject a version for one error of the medium. Such a trial is lost, and
// made once more.
func (b BootFile) Check() *slot.Evidence {
	medium := &medium{r: b.Slot}
	b.Slot = medium
	e := b.judge()
	if medium.err != nil {
		return nil
	}
	return e
}

// medium remembers that a read failed.
type medium struct {
	r   io.ReaderAt
	err error
}

func (m *medium) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.r.ReadAt(p, off)
	if err != nil && err != io.EOF { // behind the end is only what the bytes name
		m.err = err
	}
	return n, err
}

func (b BootFile) judge() *slot.Evidence {
	file, size, err := b.find()
	var image *pe.File
	if err == nil {
		image, err = b.parse(file, size)
	}
	if err != nil {
		return &slot.Evidence{Cause: slot.CorruptPE, Detail: line(err.Error())}
	}
	if !b.SecureBoot {
		return nil
	}
	if err := b.signed(file, size, image); err != nil {
		return &slot.Evidence{Cause: slot.WrongSignature, Detail: line(err.Error())}
	}
	return nil
}

func (b BootFile) find() (io.ReaderAt, int64, error) {
	fs, err := fat.Open(b.Slot, b.Size)
	if err != nil {
		return nil, 0, err
	}
	t, err := fs.Tree()
	if err != nil {
		return nil, 0, err
	}
	n := t.Get(b.Path)
	if n == nil {
		return nil, 0, fmt.Errorf("the slot has no %s", b.Path)
	}
	s, ok := n.Content.(tree.Section)
	if !ok { // slots are written in one piece
		return nil, 0, fmt.Errorf("%s is empty or in pieces", b.Path)
	}
	return io.NewSectionReader(s.R, s.Off, s.N), s.N, nil
}

func (b BootFile) parse(file io.ReaderAt, size int64) (*pe.File, error) {
	image, err := pe.Parse(file, size)
	if err != nil {
		return nil, err
	}
	if image.Machine != b.Machine || image.Subsystem != pe.SubsystemEFIApplication {
		return nil, fmt.Errorf("%s is for machine %#x, subsystem %d", b.Path, image.Machine, image.Subsystem)
	}
	return image, nil
}

// signed compares the file with db and dbx as far as bytes can be compared.
// Package authenticode would verify the signature too, but brings crypto/x509 into
// every PID 1. What remains unseen is a signature that is broken in itself, by a
// certificate that db holds, over the right digest: that trial is lost-before-init.
func (b BootFile) signed(file io.ReaderAt, size int64, image *pe.File) error {
	digest, err := pe.Authenticode(file, size, crypto.SHA256)
	if err != nil {
		return err
	}
	db, dbx := signatures(b.DB), signatures(b.DBX)
	switch {
	case dbx.hasHash(digest):
		return fmt.Errorf("dbx revokes the boot file (SHA-256 %s)", hex.EncodeToString(digest))
	case db.hasHash(digest):
		return nil
	}
	tables, err := certificateTable(file, size, image)
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		return errors.New("the boot file is not signed")
	}
	var errs []error
	for _, p7 := range tables {
		err := judgeSignature(p7, digest, db, dbx)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errs[0]
}

func judgeSignature(p7, digest []byte, db, dbx keys) error {
	certs := embedded(p7)
	switch {
	case !bytes.Contains(p7, digest):
		return errors.New("the boot file differs from what was signed")
	case dbx.signs(certs):
		return errors.New("dbx revokes the certificate of the boot file's signature")
	case !db.signs(certs):
		return errors.New("the boot file is signed by a key that is not in db")
	}
	return nil
}
