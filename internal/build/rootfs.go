package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/lock/local"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/partition/tree"
)

// planInitramfs puts the initramfs together out of segments that change at
// different paces: modules with the kernel, init with ingot, the rest with the
// recipe. Compressed segments are cached apart.
func (b *builder) planInitramfs(ctx context.Context, st *Step) error {
	base, err := b.baseSegment()
	if err != nil {
		return err
	}
	files, err := b.fileSegment(ctx)
	if err != nil {
		return err
	}
	trust, err := b.trustSegment(ctx)
	if err != nil {
		return err
	}
	segments := []initramfs.Segment{
		{Name: "base", Tree: base},
		{Name: "modules", Tree: b.kernel.modules},
		{Name: "programs", Tree: b.programSegment()},
		{Name: "files", Tree: files},
		{Name: "trust", Tree: trust},
	}
	b.archive, err = initramfs.Plan(segments, initramfs.Options{
		Epoch: b.o.Lock.Epoch, Compress: b.o.Recipe.Compress, Workers: b.o.Workers,
	})
	if err != nil {
		return err
	}
	b.rootfs = new(tree.Tree)
	for _, s := range segments {
		for _, n := range s.Tree.Nodes() {
			if old := b.rootfs.Get(n.Path); old != nil && old.Mode.IsDir() && n.Mode.IsDir() {
				continue
			}
			if err := b.rootfs.Add(*n); err != nil {
				return err
			}
		}
	}
	st.Detail = fmt.Sprintf("%d entries", b.rootfs.Len())
	return nil
}

// baseSegment is init, its configuration, the accounts and the empty
// directories that init mounts on.
func (b *builder) baseSegment() (*tree.Tree, error) {
	conf, err := b.spec()
	if err != nil {
		return nil, err
	}
	spec, err := json.MarshalIndent(conf, "", " ")
	if err != nil {
		return nil, err
	}
	r := b.o.Recipe
	t := new(tree.Tree)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "run", "sys", "var"} {
		t.Add(tree.Node{Path: dir, Mode: fs.ModeDir | 0o755})
	}
	t.Add(tree.Node{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777})
	if !r.Data.Disabled {
		t.Add(tree.Node{Path: strings.TrimPrefix(r.Data.Mount, "/"), Mode: fs.ModeDir | 0o755})
	}
	for p, content := range map[string]string{
		appliance.Path:      string(spec),
		"etc/os-release":    osRelease(r),
		"etc/passwd":        passwd(r.Users),
		"etc/group":         group(r.Users),
		"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"etc/nsswitch.conf": "hosts: files dns\n",
	} {
		if err := t.Add(tree.Node{Path: p, Mode: 0o444, Content: tree.Bytes(content)}); err != nil {
			return nil, err
		}
	}
	return t, t.Add(tree.Node{Path: "init", Mode: 0o755, Content: tree.Bytes(b.init), Origin: sbom.OriginIngot})
}

// spec is what the machine reads of the recipe, with what only the build knows.
func (b *builder) spec() (appliance.Spec, error) {
	s := recipe.Spec(b.o.Recipe)
	loaded, err := b.kernel.loaded()
	if err != nil {
		return s, err
	}
	for _, m := range loaded {
		if !slices.Contains(s.Modules, m) {
			s.Modules = append(s.Modules, m)
		}
	}
	s.Build, s.Epoch = b.key, b.o.Lock.Epoch
	s.Layout = appliance.Layout{ID: b.draft.Layout.ID, Disk: b.draft.Layout.Disk.String(), Part: map[string]string{}}
	for _, p := range b.draft.Layout.Parts {
		s.Layout.Part[p.Role] = p.GUID.String()
	}
	if b.root != nil {
		s.Root = b.root.spec()
	}
	s.Trust, err = b.anchors()
	return s, err
}

func (b *builder) programSegment() *tree.Tree {
	t := new(tree.Tree)
	for _, p := range b.programs {
		t.Add(tree.Node{Path: "bin/" + p.name, Mode: 0o755, Content: p.content, Origin: p.origin})
		for _, l := range p.links {
			t.Add(tree.Node{Path: "bin/" + path.Base(l), Mode: fs.ModeSymlink | 0o777, Target: p.name})
		}
	}
	return t
}

func osRelease(r *recipe.Recipe) string {
	return fmt.Sprintf("ID=%s\nNAME=%q\nVERSION_ID=%s\nPRETTY_NAME=%q\nIMAGE_ID=%s\nIMAGE_VERSION=%s\n",
		r.Name, r.Name, r.Version, r.Name+" "+r.Version, r.Name, r.Version)
}

func passwd(users []appliance.User) string {
	var s strings.Builder
	s.WriteString("root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	for _, u := range users {
		fmt.Fprintf(&s, "%s:x:%d:%d:%s:/:/bin/false\n", u.Name, u.UID, u.UID, u.Name)
	}
	return s.String()
}

func group(users []appliance.User) string {
	var s strings.Builder
	s.WriteString("root:x:0:\nnogroup:x:65534:\n")
	for _, u := range users {
		fmt.Fprintf(&s, "%s:x:%d:\n", u.Name, u.UID)
	}
	return s.String()
}

// fileSegment holds the recipe's files and the device firmware.
func (b *builder) fileSegment(ctx context.Context) (*tree.Tree, error) {
	t := new(tree.Tree)
	for _, f := range b.o.Recipe.Files {
		if err := b.addFile(ctx, t, f); err != nil {
			return nil, fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	for _, f := range b.o.Recipe.Firmware {
		if err := b.addFirmware(ctx, t, f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (b *builder) addFile(ctx context.Context, t *tree.Tree, f recipe.File) error {
	uid, gid, err := b.o.Recipe.Owner(f.Owner)
	if err != nil {
		return err
	}
	n := tree.Node{Path: strings.TrimPrefix(f.Path, "/"), UID: uid, GID: gid, Mode: f.Mode.Or(0o644)}
	switch {
	case f.Content != nil:
		n.Content, n.Origin = tree.Bytes(*f.Content), sbom.OriginRecipe
		return t.Add(n)
	case f.Symlink != "":
		n.Mode, n.Target = fs.ModeSymlink|0o777, f.Symlink
		return t.Add(n)
	}
	from, in, err := b.fetch(ctx, "file"+path.Clean(f.Path))
	if err != nil {
		return err
	}
	if f.Mode == 0 && f.Source != "" {
		n.Mode = 0
	}
	return b.addLocal(t, n, from, *in)
}

// addLocal puts an input file or directory at a node's path, with its owner.
// Mode 0 means that the execute bit in the lock decides. Whatever is read is
// compared with the lock once more: a file may change during a build.
func (b *builder) addLocal(t *tree.Tree, n tree.Node, path string, in lock.Input) error {
	if in.Kind == lock.KindDir {
		sub, err := local.Tree(path, in.Files)
		if err != nil {
			return err
		}
		return graft(t, n, sub, in.Name)
	}
	n.Origin = in.Name
	if n.Mode == 0 {
		n.Mode = 0o644
		if in.Mode != "" {
			n.Mode = 0o755
		}
	}
	var err error
	if n.Content, err = local.File(path, in.SHA256); err != nil {
		return err
	}
	return t.Add(n)
}

// graft puts a directory tree below a node, with the node's owner.
func graft(t *tree.Tree, at tree.Node, sub *tree.Tree, origin string) error {
	for _, n := range sub.Nodes() {
		m := *n
		m.Path, m.UID, m.GID, m.Origin = path.Join(at.Path, n.Path), at.UID, at.GID, origin
		if err := t.Add(m); err != nil {
			return err
		}
	}
	return nil
}
