package sbom

import (
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ingot-os/ingot/internal/lock"
)

// Collect assigns every file to one component. It refuses what would make the
// list a lie: a file named twice, of unknown origin or without a digest, a Go
// program without build information, and an initramfs that differs from the
// manifest's.
func Collect(in Input) (*Inventory, error) {
	c := &collector{in: in, all: map[string]*Component{}}
	if in.Manifest == nil || in.Lock == nil {
		return nil, errors.New("collect components: manifest and lock are needed")
	}
	seen := map[string]string{}
	for i := range in.Contents {
		f := &in.Contents[i]
		key := f.Partition + ":" + f.Path
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("collect components: file %s: %w", key, err)
		}
		if _, ok := seen[key]; ok {
			return nil, fmt.Errorf("collect components: file %s is there twice", key)
		}
		seen[key] = f.SHA256
		if err := c.add(f); err != nil {
			return nil, fmt.Errorf("collect components: file %s: %w", key, err)
		}
	}
	if err := c.checkInitramfs(seen); err != nil {
		return nil, fmt.Errorf("collect components: %w", err)
	}
	return c.inventory(), nil
}

func (f *Content) check() error {
	switch {
	case f.Partition == "" || strings.ContainsAny(f.Partition, ":/"):
		return fmt.Errorf("partition %q", f.Partition)
	case f.Path == "":
		return errors.New("no path")
	case !utf8.ValidString(f.Path):
		return errors.New("the path is not UTF-8, which both document formats need")
	case !isHex(f.SHA256, 64):
		return fmt.Errorf("sha256 %q", f.SHA256)
	case f.SHA1 != "" && !isHex(f.SHA1, 40):
		return fmt.Errorf("sha1 %q", f.SHA1)
	case f.Size < 0:
		return fmt.Errorf("size %d", f.Size)
	}
	return nil
}

func isHex(s string, n int) bool { return len(s) == n && strings.Trim(s, "0123456789abcdef") == "" }

type collector struct {
	in  Input
	all map[string]*Component
}

func (c *collector) add(f *Content) error {
	owner, err := c.owner(f)
	if err != nil {
		return err
	}
	owner.Files = append(owner.Files, *f)
	info := c.in.Programs[f.SHA256]
	if info == nil {
		return nil
	}
	refs := c.modules(info)
	switch owner.Kind {
	case KindGo, KindIngot:
	default: // a program inside a package or an image: its main module is a dependency too
		refs = append(refs, c.mainModule(info).Ref)
	}
	owner.DependsOn = append(owner.DependsOn, refs...)
	return nil
}

// owner finds or makes the component that a file belongs to.
func (c *collector) owner(f *Content) (*Component, error) {
	switch f.Origin {
	case OriginIngot:
		return c.ingotInit(f)
	case OriginGenerated:
		return c.component(Component{Ref: "ingot-generated", Kind: KindGenerated, Name: "ingot-generated", Version: c.in.Manifest.Tools.Ingot}), nil
	case OriginRecipe:
		return c.component(Component{Ref: "recipe", Kind: KindFile, Name: "appliance.yaml", SHA256: c.in.Lock.Recipe}), nil
	}
	name, layer, _ := strings.Cut(f.Origin, "@")
	in := c.in.Lock.Find(f.Origin)
	if in == nil && layer != "" {
		in = c.in.Lock.Find(name)
	}
	if in == nil {
		return nil, fmt.Errorf("origin %q is no input of the lock", f.Origin)
	}
	return c.inputOwner(f, in, layer)
}

func (c *collector) inputOwner(f *Content, in *lock.Input, layer string) (*Component, error) {
	var owner *Component
	switch in.Kind {
	case lock.KindDeb:
		owner = c.component(debianComponent(in))
	case lock.KindGoDir, lock.KindGoModule:
		info := c.in.Programs[f.SHA256]
		if info == nil {
			return nil, errors.New("a compiled program without Go build information")
		}
		owner = c.mainModule(info)
	case lock.KindOCI:
		owner = c.component(imageComponent(in))
		if layer != "" && in.Name != f.Origin {
			if !slices.ContainsFunc(in.Blobs, func(b lock.Blob) bool { return b.SHA256 == layer }) {
				return nil, fmt.Errorf("image %s has no layer %s", in.Name, layer)
			}
			l := c.component(layerComponent(in, layer))
			owner.DependsOn = append(owner.DependsOn, l.Ref)
			owner.Inputs = append(owner.Inputs, in.Name)
			owner = l
		}
	default:
		owner = c.component(fileComponent(in))
	}
	owner.Inputs = append(owner.Inputs, in.Name)
	return owner, nil
}

func (c *collector) ingotInit(f *Content) (*Component, error) {
	if want := c.in.Lock.Ingot.Init; f.SHA256 != want {
		return nil, fmt.Errorf("sha256 %s is not that of the locked ingot-init, %s", f.SHA256, want)
	}
	info := c.in.Programs[f.SHA256]
	if info == nil {
		return nil, errors.New("ingot-init without Go build information")
	}
	v := c.in.Manifest.Tools.Ingot
	return c.component(Component{
		Ref: "ingot-init", Kind: KindIngot, Name: "ingot-init", Version: v, SHA256: f.SHA256,
		PURL: goPURL("github.com/ingot-os/ingot", vVersion(v)) + "#" + variant(info),
	}), nil
}

// variant is the folder of the program that is /init, below the module.
func variant(info *buildinfo.BuildInfo) string {
	if _, below, ok := strings.Cut(info.Path, "/cmd/"); ok {
		return "cmd/" + below
	}
	return "cmd/ingot-init"
}

// component returns the one of the same ref, or takes this one.
func (c *collector) component(n Component) *Component {
	if old := c.all[n.Ref]; old != nil {
		return old
	}
	c.all[n.Ref] = &n
	return &n
}

func (c *collector) mainModule(info *buildinfo.BuildInfo) *Component {
	path, version := info.Main.Path, info.Main.Version
	if path == "" {
		path = info.Path
	}
	return c.component(goComponent(path, version))
}

// modules returns the refs of the modules a program was linked from.
func (c *collector) modules(info *buildinfo.BuildInfo) []string {
	refs := []string{c.component(goComponent(Stdlib, stdlibVersion(info.GoVersion))).Ref}
	for _, m := range info.Deps {
		path, version := m.Path, m.Version
		if r := m.Replace; r != nil && r.Version != "" {
			path, version = r.Path, r.Version
		} else if r != nil {
			version = "" // replaced by a local directory
		}
		refs = append(refs, c.component(goComponent(path, version)).Ref)
	}
	return refs
}

// checkInitramfs compares with the manifest, which lists the initramfs anyway.
func (c *collector) checkInitramfs(seen map[string]string) error {
	count := 0
	for _, e := range c.in.Manifest.Contents {
		if !strings.HasPrefix(e.Mode, "10") || e.Target != "" { // S_IFREG; a target makes it a hard link
			continue
		}
		count++
		switch got, ok := seen[Initramfs+":"+e.Path]; {
		case !ok:
			return fmt.Errorf("file %s of the initramfs belongs to no component", e.Path)
		case got != e.SHA256:
			return fmt.Errorf("file %s of the initramfs: sha256 %s, the manifest says %s", e.Path, got, e.SHA256)
		}
	}
	for _, f := range c.in.Contents {
		if f.Partition == Initramfs {
			count--
		}
	}
	if count != 0 {
		return fmt.Errorf("%d files of the initramfs are not in the manifest", -count)
	}
	return nil
}

func (c *collector) inventory() *Inventory {
	m := c.in.Manifest
	v := &Inventory{Name: m.Name, Version: m.Version, Arch: m.Arch, Build: m.Build, Epoch: m.Epoch, Ingot: m.Tools.Ingot}
	for _, ref := range slices.Sorted(maps.Keys(c.all)) {
		n := c.all[ref]
		n.Inputs, n.DependsOn = sortedSet(n.Inputs), sortedSet(n.DependsOn)
		n.DependsOn = slices.DeleteFunc(n.DependsOn, func(d string) bool { return d == ref })
		slices.SortFunc(n.Files, func(a, b Content) int {
			return cmp.Or(strings.Compare(a.Partition, b.Partition), strings.Compare(a.Path, b.Path))
		})
		v.Components = append(v.Components, *n)
	}
	return v
}

func sortedSet(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
