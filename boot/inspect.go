package boot

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/boot/pe"
)

// Info describes a UKI, or any other EFI program as far as it has the parts.
type Info struct {
	Arch     string        `json:"arch,omitempty"` // empty for a machine that ingot does not boot
	Stub     string        `json:"stub,omitempty"` // what .sdmagic says: "systemd-stub 257.13-1~deb13u1"
	Cmdline  string        `json:"cmdline,omitempty"`
	Uname    string        `json:"uname,omitempty"`
	SBAT     string        `json:"sbat,omitempty"`
	OS       OSRelease     `json:"osRelease,omitzero"`
	Sections []SectionInfo `json:"sections"`
	Signed   bool          `json:"signed"` // carries a certificate table; not whether it is valid
	// Authenticode is the hex SHA-256 that signatures cover and firmware measures.
	Authenticode string   `json:"authenticode"`
	PE           *pe.File `json:"pe"`
	// Problem says why the image is not a UKI with one meaning; see pe.File.CheckUKI.
	Problem string `json:"problem,omitempty"`
}

// OSRelease is the fields of .osrel that say what the image is.
type OSRelease struct {
	ID           string `json:"id,omitempty"`
	PrettyName   string `json:"prettyName,omitempty"`
	VersionID    string `json:"versionId,omitempty"`
	ImageID      string `json:"imageId,omitempty"`
	ImageVersion string `json:"imageVersion,omitempty"`
	BuildID      string `json:"buildId,omitempty"`
}

// SectionInfo is one section and the digest of its content in the file: the
// VirtualSize bytes that the stub measures, not the padding behind them. Where
// VirtualSize is more than Size, memory has zeros behind the content that the
// digest here does not cover.
type SectionInfo struct {
	Name           string `json:"name"`
	Offset         int64  `json:"offset"` // bytes
	Size           int64  `json:"size"`   // bytes of content
	VirtualAddress uint32 `json:"virtualAddress"`
	VirtualSize    uint32 `json:"virtualSize"` // bytes
	SHA256         string `json:"sha256"`      // hex
}

// Inspect describes the EFI program that is the first size bytes of r. A
// program that is no UKI is described too, with Problem saying so; an error
// means that it is no PE image, or that reading failed.
func Inspect(r io.ReaderAt, size int64) (Info, error) {
	f, err := pe.Parse(r, size)
	if err != nil {
		return Info{}, fmt.Errorf("inspect uki: %w", err)
	}
	info := Info{Arch: archOf(f.Machine), Signed: f.Signed(), PE: f}
	if err := f.CheckUKI(); err != nil {
		info.Problem = err.Error()
	}
	digest, err := pe.Authenticode(r, size, crypto.SHA256)
	if err != nil {
		return Info{}, fmt.Errorf("inspect uki: %w", err)
	}
	info.Authenticode = hex.EncodeToString(digest)
	for _, s := range f.Sections {
		part, err := describe(s, r)
		if err != nil {
			return Info{}, fmt.Errorf("inspect uki: section %s: %w", s.Name, err)
		}
		info.Sections = append(info.Sections, part)
	}
	return info, info.readTexts(f, r)
}

func describe(s pe.SectionHeader, r io.ReaderAt) (SectionInfo, error) {
	h := sha256.New()
	if _, err := io.Copy(h, s.Data(r)); err != nil {
		return SectionInfo{}, err
	}
	return SectionInfo{Name: s.Name, Offset: int64(s.Offset), Size: s.DataSize(), VirtualAddress: s.VirtualAddress,
		VirtualSize: s.VirtualSize, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// readTexts fills the fields that come from text sections. A section that is
// missing leaves its field empty.
func (info *Info) readTexts(f *pe.File, r io.ReaderAt) error {
	info.Stub, _ = loaderInfo(f, r)
	var osrel string
	for name, to := range map[string]*string{".cmdline": &info.Cmdline, ".uname": &info.Uname, ".sbat": &info.SBAT, ".osrel": &osrel} {
		s := f.Section(name)
		if s == nil {
			continue
		}
		v, err := sectionText(*s, r)
		if err != nil {
			return fmt.Errorf("inspect uki: %w", err)
		}
		*to = v
	}
	// Another tool's os-release may be malformed; what was read still counts.
	fields, _ := parseOSRelease(osrel)
	info.OS = OSRelease{ID: fields["ID"], PrettyName: fields["PRETTY_NAME"], VersionID: fields["VERSION_ID"],
		ImageID: fields["IMAGE_ID"], ImageVersion: fields["IMAGE_VERSION"], BuildID: fields["BUILD_ID"]}
	return nil
}
