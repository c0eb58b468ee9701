package sbom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// Bounds of a document that Parse reads.
const (
	maxDocument   = 256 << 20 // bytes
	maxComponents = 1 << 20
)

// FormatError says which component of a document is wrong.
type FormatError struct {
	Field string // as in "components[3].components[7].name"
	Msg   string
}

func (e *FormatError) Error() string {
	if e.Field == "" {
		return "parse CycloneDX: " + e.Msg
	}
	return "parse CycloneDX: " + e.Field + ": " + e.Msg
}

// Parse reads a CycloneDX 1.6 document that ingot wrote. Others are refused:
// what a component's name means is known of our own only.
func Parse(data []byte) (*Inventory, error) {
	if len(data) > maxDocument {
		return nil, &FormatError{Msg: fmt.Sprintf("larger than %d bytes", maxDocument)}
	}
	var bom cdx.BOM
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&bom); err != nil {
		return nil, &FormatError{Msg: fmt.Sprintf("offset %d: %v", dec.InputOffset(), err)}
	}
	switch {
	case bom.BOMFormat != "CycloneDX":
		return nil, &FormatError{"bomFormat", fmt.Sprintf("%.40q", bom.BOMFormat)}
	case bom.SpecVersion != cdx.SpecVersion1_6:
		return nil, &FormatError{"specVersion", "this ingot reads 1.6"}
	case bom.Metadata == nil || bom.Metadata.Component == nil:
		return nil, &FormatError{"metadata.component", "missing"}
	case bom.Components == nil || len(*bom.Components) == 0:
		return nil, &FormatError{"components", "none"}
	case len(*bom.Components) > maxComponents:
		return nil, &FormatError{"components", fmt.Sprintf("more than %d", maxComponents)}
	}
	v, err := parseHead(bom.Metadata)
	if err != nil {
		return nil, err
	}
	return v, v.parseComponents(&bom)
}

func parseHead(m *cdx.Metadata) (*Inventory, error) {
	t, err := time.Parse(time.RFC3339, m.Timestamp)
	if err != nil || t.UTC().Format(time.RFC3339) != m.Timestamp {
		return nil, &FormatError{"metadata.timestamp", fmt.Sprintf("%.40q", m.Timestamp)}
	}
	props := m.Component.Properties
	v := &Inventory{
		Name: m.Component.Name, Version: m.Component.Version, Epoch: t.Unix(),
		Arch: property(props, propArch), Build: property(props, propBuild),
	}
	if m.Tools != nil && m.Tools.Components != nil && len(*m.Tools.Components) == 1 {
		v.Ingot = (*m.Tools.Components)[0].Version
	}
	return v, nil
}

func (v *Inventory) parseComponents(bom *cdx.BOM) error {
	index := map[string]int{}
	for i := range *bom.Components {
		field := fmt.Sprintf("components[%d]", i)
		c, err := parseComponent(&(*bom.Components)[i], field)
		if err != nil {
			return err
		}
		if _, ok := index[c.Ref]; ok || c.Ref == "" {
			return &FormatError{field + ".bom-ref", fmt.Sprintf("%.80q is empty or there twice", c.Ref)}
		}
		index[c.Ref] = i
		v.Components = append(v.Components, c)
	}
	if bom.Dependencies == nil {
		return nil
	}
	for _, d := range *bom.Dependencies {
		if i, ok := index[d.Ref]; ok && d.Dependencies != nil {
			v.Components[i].DependsOn = *d.Dependencies
		}
	}
	return nil
}

func parseComponent(in *cdx.Component, field string) (Component, error) {
	p := in.Properties
	c := Component{
		Ref: in.BOMRef, Kind: Kind(property(p, propKind)), Name: in.Name, Version: in.Version, PURL: in.PackageURL, SHA256: hash(in.Hashes, cdx.HashAlgoSHA256),
		Arch: property(p, propArch), Distro: property(p, propDistro), Source: property(p, propSource), SourceVersion: property(p, propSourceVersion),
	}
	switch c.Kind {
	case KindDebian, KindGo, KindOCI, KindFile, KindIngot, KindGenerated:
	default:
		return c, &FormatError{field, fmt.Sprintf("property %s is %.40q: not a document of ingot", propKind, c.Kind)}
	}
	if c.Kind == KindDebian && (c.Source == "" || c.SourceVersion == "" || c.Distro == "") {
		return c, &FormatError{field, "a Debian package without source package or distribution"}
	}
	if p != nil {
		for _, x := range *p {
			if x.Name == propInput {
				c.Inputs = append(c.Inputs, x.Value)
			}
		}
	}
	if in.Components == nil {
		return c, nil
	}
	for i := range *in.Components {
		f, err := parseFile(&(*in.Components)[i])
		if err != nil {
			return c, &FormatError{fmt.Sprintf("%s.components[%d]", field, i), err.Error()}
		}
		c.Files = append(c.Files, f)
	}
	return c, nil
}

func parseFile(in *cdx.Component) (Content, error) {
	partition, path, _ := strings.Cut(in.Name, ":")
	size, err := strconv.ParseInt(property(in.Properties, propSize), 10, 64)
	if err != nil {
		return Content{}, fmt.Errorf("property %s is no number", propSize)
	}
	f := Content{Partition: partition, Path: path, SHA256: hash(in.Hashes, cdx.HashAlgoSHA256), SHA1: hash(in.Hashes, cdx.HashAlgoSHA1), Size: size, Origin: property(in.Properties, propOrigin)}
	return f, f.check()
}

func property(list *[]cdx.Property, name string) string {
	if list == nil {
		return ""
	}
	for _, p := range *list {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

func hash(list *[]cdx.Hash, algorithm cdx.HashAlgorithm) string {
	if list == nil {
		return ""
	}
	for _, h := range *list {
		if h.Algorithm == algorithm {
			return h.Value
		}
	}
	return ""
}
