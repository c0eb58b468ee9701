package sbom

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// Names of the properties in CycloneDX documents. Values that the format has a
// field for are not among them.
const (
	propKind          = "ingot:kind"
	propArch          = "ingot:arch"
	propDistro        = "ingot:debian:distro"
	propSource        = "ingot:debian:source"
	propSourceVersion = "ingot:debian:source-version"
	propInput         = "ingot:input"
	propOrigin        = "ingot:origin"
	propSize          = "ingot:size"
	propBuild         = "ingot:build"
)

const cdxSchema = "http://cyclonedx.org/schema/bom-1.6.schema.json"

// CycloneDX gives the document in JSON, indented, with a final line break.
// Files are components of type file inside the component that owns them.
func (v *Inventory) CycloneDX() ([]byte, error) {
	root := v.appliance()
	bom := cdx.BOM{
		JSONSchema: cdxSchema, BOMFormat: "CycloneDX", SpecVersion: cdx.SpecVersion1_6,
		SerialNumber: "urn:uuid:" + v.uuid("cyclonedx"), Version: 1,
		Metadata: &cdx.Metadata{
			Timestamp:  v.time(),
			Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhaseBuild}},
			Tools:      &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "ingot", Version: v.Ingot}}},
			Component:  &root,
		},
	}
	components := []cdx.Component{}
	top := []string{}
	dependencies := []cdx.Dependency{{Ref: root.BOMRef, Dependencies: &top}}
	for i := range v.Components {
		c := &v.Components[i]
		components = append(components, c.cyclonedx())
		if len(c.Files) > 0 {
			top = append(top, c.Ref)
		}
		d := cdx.Dependency{Ref: c.Ref}
		if len(c.DependsOn) > 0 {
			d.Dependencies = &c.DependsOn
		}
		dependencies = append(dependencies, d)
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	return encodeCycloneDX(&bom)
}

func encodeCycloneDX(bom *cdx.BOM) ([]byte, error) {
	var b bytes.Buffer
	if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bom); err != nil {
		return nil, fmt.Errorf("encode CycloneDX: %w", err)
	}
	return b.Bytes(), nil
}

func (v *Inventory) time() string { return time.Unix(v.Epoch, 0).UTC().Format(time.RFC3339) }

// appliance is the subject of the document. Type operating-system says that
// the thing boots by itself.
func (v *Inventory) appliance() cdx.Component {
	return cdx.Component{
		BOMRef: "appliance", Type: cdx.ComponentTypeOS, Name: v.Name, Version: v.Version,
		Properties: &[]cdx.Property{{Name: propArch, Value: v.Arch}, {Name: propBuild, Value: v.Build}},
	}
}

func (c *Component) cyclonedx() cdx.Component {
	out := cdx.Component{
		BOMRef: c.Ref, Type: c.cdxType(), Name: c.Name, Version: c.Version, PackageURL: c.PURL, Hashes: cdxHash(c.SHA256),
	}
	props := []cdx.Property{}
	for _, p := range []cdx.Property{
		{Name: propKind, Value: string(c.Kind)}, {Name: propArch, Value: c.Arch}, {Name: propDistro, Value: c.Distro},
		{Name: propSource, Value: c.Source}, {Name: propSourceVersion, Value: c.SourceVersion},
	} {
		if p.Value != "" {
			props = append(props, p)
		}
	}
	for _, in := range c.Inputs {
		props = append(props, cdx.Property{Name: propInput, Value: in})
	}
	out.Properties = &props
	if len(c.Files) > 0 {
		files := make([]cdx.Component, len(c.Files))
		for i := range c.Files {
			files[i] = c.Files[i].cyclonedx()
		}
		out.Components = &files
	}
	return out
}

func (c *Component) cdxType() cdx.ComponentType {
	switch {
	case c.Kind == KindOCI:
		return cdx.ComponentTypeContainer
	case c.Kind == KindFile:
		return cdx.ComponentTypeFile
	case c.Kind == KindGenerated:
		return cdx.ComponentTypeData
	case c.Kind == KindIngot || c.Kind == KindGo && len(c.Files) > 0:
		return cdx.ComponentTypeApplication
	}
	return cdx.ComponentTypeLibrary
}

func (f *Content) cyclonedx() cdx.Component {
	name := f.Partition + ":" + f.Path
	return cdx.Component{
		BOMRef: "file:" + name, Type: cdx.ComponentTypeFile, Name: name, Hashes: f.hashes(),
		Properties: &[]cdx.Property{{Name: propOrigin, Value: f.Origin}, {Name: propSize, Value: strconv.FormatInt(f.Size, 10)}},
	}
}

func (f *Content) hashes() *[]cdx.Hash {
	list := []cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: f.SHA256}}
	if f.SHA1 != "" {
		list = append(list, cdx.Hash{Algorithm: cdx.HashAlgoSHA1, Value: f.SHA1})
	}
	return &list
}

func cdxHash(sha256 string) *[]cdx.Hash {
	if sha256 == "" {
		return nil
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sha256}}
}
