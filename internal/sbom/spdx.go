package sbom

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/ingot-os/ingot/internal/jsondoc"
)

// spdxNamespace starts the URI that makes a document unique (SPDX 2.3 section 6.5).
const spdxNamespace = "https://github.com/ingot-os/ingot/spdx/"

const noAssertion = "NOASSERTION"

// SPDX gives the document in JSON, indented, with a final line break. A package
// counts as analysed when the SHA-1 of all its files is known, because its
// verification code (section 7.9) is made of these.
func (v *Inventory) SPDX() ([]byte, error) {
	doc := v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      v.Name + "-" + v.Version,
		DocumentNamespace: spdxNamespace + escape(v.Name+"-"+v.Version) + "-" + v.uuid("spdx"),
		CreationInfo: &v2_3.CreationInfo{
			Created: v.time(), Creators: []common.Creator{{CreatorType: "Tool", Creator: "ingot-" + v.Ingot}},
		},
		Packages: []*v2_3.Package{{
			PackageName: v.Name, PackageVersion: v.Version, PackageSPDXIdentifier: "Appliance",
			PackageDownloadLocation: noAssertion, IsFilesAnalyzedTagPresent: true, PrimaryPackagePurpose: "OPERATING_SYSTEM",
		}},
	}
	relate := func(a, kind, b string) {
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{
			RefA: common.MakeDocElementID("", a), RefB: common.MakeDocElementID("", b), Relationship: kind,
		})
	}
	relate("DOCUMENT", "DESCRIBES", "Appliance")
	for i := range v.Components {
		c := &v.Components[i]
		id := spdxID("Package", c.Ref)
		doc.Packages = append(doc.Packages, c.spdx(id))
		if len(c.Files) > 0 {
			relate("Appliance", "CONTAINS", id)
		}
		for _, d := range c.DependsOn {
			relate(id, "DEPENDS_ON", spdxID("Package", d))
		}
		for j := range c.Files {
			f := c.Files[j].spdx()
			doc.Files = append(doc.Files, f)
			relate(id, "CONTAINS", string(f.FileSPDXIdentifier))
		}
	}
	return encodeSPDX(&doc)
}

func encodeSPDX(doc *v2_3.Document) ([]byte, error) {
	b, err := jsondoc.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode SPDX: %w", err)
	}
	return b, nil
}

// spdxID is an identifier of letters, digits, "." and "-" (section 7.2). It is a
// hash, because paths have other characters and no two may fall together.
func spdxID(kind, ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return kind + "-" + hex.EncodeToString(sum[:12])
}

func (c *Component) spdx(id string) *v2_3.Package {
	p := &v2_3.Package{
		PackageName: c.Name, PackageVersion: c.Version, PackageSPDXIdentifier: common.ElementID(id),
		PackageDownloadLocation: noAssertion, IsFilesAnalyzedTagPresent: true,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		PrimaryPackagePurpose: c.spdxPurpose(),
	}
	if c.SHA256 != "" {
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: c.SHA256}}
	}
	if c.PURL != "" {
		p.PackageExternalReferences = []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: c.PURL,
		}}
	}
	if c.Source != "" {
		p.PackageSourceInfo = "built from the Debian source package " + c.Source + " " + c.SourceVersion
	}
	if code := c.verificationCode(); code != "" {
		p.FilesAnalyzed, p.PackageVerificationCode = true, &common.PackageVerificationCode{Value: code}
	}
	return p
}

// verificationCode is the SHA-1 of the files' sorted SHA-1s (section 7.9).
func (c *Component) verificationCode() string {
	var sums []string
	for _, f := range c.Files {
		if f.SHA1 == "" {
			return ""
		}
		sums = append(sums, f.SHA1)
	}
	if len(sums) == 0 {
		return ""
	}
	slices.Sort(sums)
	sum := sha1.Sum([]byte(strings.Join(sums, "")))
	return hex.EncodeToString(sum[:])
}

func (c *Component) spdxPurpose() string {
	switch {
	case c.Kind == KindOCI:
		return "CONTAINER"
	case c.Kind == KindFile:
		return "FILE"
	case c.Kind == KindGenerated:
		return "OTHER"
	case c.Kind == KindIngot || c.Kind == KindGo && len(c.Files) > 0:
		return "APPLICATION"
	}
	return "LIBRARY"
}

func (f *Content) spdx() *v2_3.File {
	sums := []common.Checksum{{Algorithm: common.SHA256, Value: f.SHA256}}
	if f.SHA1 != "" {
		sums = append([]common.Checksum{{Algorithm: common.SHA1, Value: f.SHA1}}, sums...)
	}
	name := f.Partition + "/" + strings.TrimPrefix(f.Path, "/")
	return &v2_3.File{
		FileName: "./" + name, FileSPDXIdentifier: common.ElementID(spdxID("File", f.Partition+":"+f.Path)), Checksums: sums,
		LicenseConcluded: noAssertion, LicenseInfoInFiles: []string{noAssertion}, FileCopyrightText: noAssertion,
	}
}
