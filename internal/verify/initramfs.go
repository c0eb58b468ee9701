package verify

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/partition/tree"
)

// checkInitramfs unpacks the initramfs of the boot file and compares every
// entry with the manifest, and what ingot-init reads with the rest of the set.
func (v *verifier) checkInitramfs(c *Check, out contents) error {
	if v.uki == nil {
		c.skip(v.nothing())
		return nil
	}
	r := v.uki.section(".initrd")
	if r == nil {
		c.refuse(InitramfsMalformed, v.uki.part("section .initrd"), "", "no such section")
		return nil
	}
	t, _, err := initramfs.Open(r, r.Size())
	if err == nil {
		err = out.add(v.ctx, sbom.Initramfs, t)
	}
	if err != nil {
		if v.ctx.Err() != nil {
			return err
		}
		c.malformed(InitramfsMalformed, v.uki.part("section .initrd"), err)
		return nil
	}
	v.judgeEntries(c, t, out[sbom.Initramfs])
	v.judgeSpec(c, t)
	v.judgeInit(c, out[sbom.Initramfs])
	return nil
}

// node is all that a manifest says of an entry. Names of one file have the
// same leader, whichever of them the archive stores it under.
type node struct {
	mode, owner, target string
	size                int64
	sha256, leader      string
}

func (n node) String() string {
	s := "mode " + n.mode
	if n.owner != "" {
		s += ", owner " + n.owner
	}
	switch {
	case n.target != "":
		s += ", target " + n.target
	case n.sha256 != "":
		s += fmt.Sprintf(", %d bytes, sha256 %s", n.size, n.sha256)
	}
	if n.leader != "" {
		s += ", the file " + n.leader
	}
	return s
}

func (v *verifier) judgeEntries(c *Check, t *tree.Tree, files map[string]content) {
	got, want := nodesOf(t, files), nodesIn(v.m.Contents)
	c.Count = len(v.m.Contents)
	if len(want) != len(v.m.Contents) {
		c.refuse(ManifestInconsistent, inManifest("contents"), "every path once", fmt.Sprint(len(v.m.Contents)-len(want))+" more")
	}
	for _, path := range sorted(want) {
		place := v.uki.part("section .initrd", path)
		if g, ok := got[path]; !ok {
			c.refuse(InitramfsContents, place, want[path].String(), "no such entry")
		} else {
			c.differ(InitramfsContents, place, want[path].String(), g.String())
		}
	}
	for _, path := range sorted(got) {
		if _, ok := want[path]; !ok {
			c.refuse(InitramfsContents, v.uki.part("section .initrd", path), "no such entry", got[path].String())
		}
	}
}

func nodesOf(t *tree.Tree, files map[string]content) map[string]node {
	out := map[string]node{}
	for _, n := range t.Nodes() {
		e := node{mode: fmt.Sprintf("%06o", unixMode(n.Mode)), target: n.Target}
		if n.UID != 0 || n.GID != 0 {
			e.owner = fmt.Sprintf("%d:%d", n.UID, n.GID)
		}
		if n.Mode.IsRegular() {
			f := files[n.Path]
			e.size, e.sha256, e.leader = f.size, f.sha256, f.shared
		}
		out[n.Path] = e
	}
	return out
}

func nodesIn(list []release.Entry) map[string]node {
	byPath := map[string]release.Entry{}
	least := map[string]string{} // name of a file that has several, by the one that has the content
	for _, e := range list {
		byPath[e.Path] = e
		if e.Target != "" && strings.HasPrefix(e.Mode, "10") { // S_IFREG with a target: a hard link
			least[e.Target] = min(e.Path, cmp.Or(least[e.Target], e.Target))
		}
	}
	out := map[string]node{}
	for path, e := range byPath {
		n := node{mode: e.Mode, owner: e.Owner, target: e.Target, size: e.Size, sha256: e.SHA256}
		if strings.HasPrefix(e.Mode, "10") {
			leader := path
			if e.Target != "" {
				leader = e.Target
			}
			n.target, n.size, n.sha256, n.leader = "", byPath[leader].Size, byPath[leader].SHA256, least[leader]
		}
		out[path] = n
	}
	return out
}

// unixMode is st_mode of <sys/stat.h>.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, v := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= v
		}
	}
	switch {
	case m.IsRegular():
		return mode | 0o100000
	case m.IsDir():
		return mode | 0o040000
	case m&fs.ModeSymlink != 0:
		return mode | 0o120000
	}
	return mode // devices and pipes, which no manifest has
}

// judgeInit compares ingot-init with the digest that the lock pinned.
func (v *verifier) judgeInit(c *Check, files map[string]content) {
	c.differ(InitramfsIdentity, v.uki.part("section .initrd", "init"), v.m.Tools.Init, files["init"].sha256)
}

// maxSpec bounds the machine's configuration, in bytes.
const maxSpec = 16 << 20

// judgeSpec compares what the machine will believe with the manifest: which
// release it is, which partitions it looks for, which root it trusts.
func (v *verifier) judgeSpec(c *Check, t *tree.Tree) {
	place := v.uki.part("section .initrd", appliance.Path)
	s, err := readSpec(t.Get(appliance.Path))
	if err != nil {
		c.malformed(InitramfsIdentity, place, err)
		return
	}
	type pair struct{ field, want, got string }
	m := v.m
	list := []pair{
		{"name", m.Name, s.Name}, {"version", m.Version, s.Version}, {"arch", m.Arch, s.Arch}, {"build", m.Build, s.Build},
		{"epoch", fmt.Sprint(m.Epoch), fmt.Sprint(s.Epoch)}, {"layout.id", m.Disk.Layout, s.Layout.ID}, {"layout.disk", m.Disk.GUID, s.Layout.Disk},
		{"layout.part", fmt.Sprint(len(m.Disk.Partitions)), fmt.Sprint(len(s.Layout.Part))},
		{"trust.policy", hex.EncodeToString(m.PolicyKey), hex.EncodeToString(policyKey(s))},
		{"securityEpoch", fmt.Sprint(m.SecurityEpoch), fmt.Sprint(s.SecurityEpoch)},
		{"data.schema", fmt.Sprint(m.DataSchema), fmt.Sprint(s.Data.Schema)}, {"data.accepts", fmt.Sprint(m.DataAccepts), fmt.Sprint(s.Data.Accepts)},
		{"root", fmt.Sprint(m.Root != nil), fmt.Sprint(s.Root != nil)},
	}
	for _, p := range m.Disk.Partitions {
		list = append(list, pair{"layout.part." + p.Role, p.GUID, s.Layout.Part[p.Role]})
	}
	if m.Root != nil && s.Root != nil {
		list = append(list, pair{"root.rootHash", m.Root.RootHash, s.Root.RootHash}, pair{"root.format", m.Root.Format, s.Root.Format},
			pair{"root.hashStart", fmt.Sprint(m.Root.HashStart), fmt.Sprint(s.Root.HashStart)})
	}
	for _, p := range list {
		field := place
		field.Path = append(append([]string{}, place.Path...), p.field)
		c.differ(InitramfsIdentity, field, p.want, p.got)
	}
}

// policyKey is the key that opens the data of a machine; nil when it does not
// encrypt any.
func policyKey(s *appliance.Spec) []byte {
	if s.Data.Encrypt == "" || s.Trust == nil {
		return nil
	}
	return s.Trust.Policy
}

func readSpec(n *tree.Node) (*appliance.Spec, error) {
	if n == nil || n.Size() > maxSpec {
		return nil, errors.New("it is missing or too large")
	}
	r, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s := new(appliance.Spec)
	return s, json.Unmarshal(data, s)
}
