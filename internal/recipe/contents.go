package recipe

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// contents is what the initramfs will hold, as far as the recipe tells,
// without building it: enough to follow a path to the file that a service runs.
type contents struct {
	r       *Recipe
	entries map[string]entry
	trees   []graft // source directories
	facts   Facts
}

// entry is one path of the image.
type entry struct {
	kind     entryKind
	mode     fs.FileMode // permission bits
	uid, gid uint32
	at       string // path in the recipe that makes it
	target   string // links
	local    string // host path of the content, when it is a local file
	inTree   bool   // in a source directory, which keeps its modes
	text     *string
}

type entryKind int

const (
	absent  entryKind = iota
	unknown           // in a place nobody can see into without building
	isDir
	isFile
	isProgram // compiled here: static, for the right processor
	isLink
)

// graft is a local directory that appears below a path.
type graft struct {
	at, prefix, dir string
	uid, gid        uint32
}

// baseDirs exist in every image.
var baseDirs = []string{"/", "/bin", "/dev", "/dev/shm", "/etc", "/etc/ingot", "/proc", "/run", "/sys", "/tmp", "/var"}

// baseFiles are written by ingot; init and its configuration are not for services.
var baseFiles = []string{"/init", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/os-release", "/etc/ingot/appliance.json", "/etc/resolv.conf"}

func newContents(r *Recipe, facts Facts) *contents {
	c := &contents{r: r, entries: map[string]entry{}, facts: facts}
	for _, d := range baseDirs {
		c.put(d, entry{kind: isDir, mode: 0o755})
	}
	c.put("/tmp", entry{kind: isDir, mode: 0o777})
	for _, f := range baseFiles {
		c.put(f, entry{kind: isFile, mode: 0o444})
	}
	if r.Data.Mount != "" {
		c.put(r.Data.Mount, entry{kind: isDir, mode: 0o755})
	}
	for i, p := range r.Go {
		c.put("/bin/"+p.Name, entry{kind: isProgram, mode: 0o755, at: fmt.Sprintf("go[%d]", i)})
	}
	for i, u := range r.URoot {
		c.put("/bin/"+u, entry{kind: isProgram, mode: 0o755, at: fmt.Sprintf("uroot[%d]", i)})
	}
	for i := range r.Files {
		c.file(fmt.Sprintf("files[%d]", i), &r.Files[i])
	}
	return c
}

// put adds a path and the directories above it.
func (c *contents) put(p string, e entry) {
	c.entries[p] = e
	for dir := path.Dir(p); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if _, ok := c.entries[dir]; ok {
			return
		}
		c.entries[dir] = entry{kind: isDir, mode: 0o755}
	}
}

func (c *contents) file(at string, f *File) {
	uid, gid, _ := c.r.Owner(f.Owner)
	e := entry{kind: isFile, at: at, uid: uid, gid: gid, mode: f.Mode.Or(0o644).Perm(), text: f.Content}
	switch {
	case f.Symlink != "":
		e.kind, e.target = isLink, f.Symlink
	case f.Source != "":
		local := c.r.local(f.Source)
		info, err := os.Stat(local)
		if err == nil && info.IsDir() {
			c.trees = append(c.trees, graft{at, f.Path, local, uid, gid})
			e.kind, e.mode = isDir, 0o755
			break
		}
		e.local = local
		if err == nil && f.Mode == 0 && info.Mode()&0o100 != 0 {
			e.mode = 0o755
		}
	}
	c.put(f.Path, e)
}

// get looks one path up, without following links.
func (c *contents) get(p string) entry {
	if e, ok := c.entries[p]; ok {
		return e
	}
	for _, t := range c.trees {
		if rel, ok := strings.CutPrefix(p, strings.TrimSuffix(t.prefix, "/")+"/"); ok {
			if e := hostEntry(filepath.Join(t.dir, filepath.FromSlash(rel))); e.kind != absent {
				e.at, e.uid, e.gid, e.inTree = t.at, t.uid, t.gid, true
				return e
			}
		}
	}
	return c.inRoot(p)
}

// hostEntry describes a file of a local directory as the builder will write it.
func hostEntry(name string) entry {
	info, err := os.Lstat(name)
	if err != nil {
		return entry{}
	}
	e := entry{kind: isFile, mode: 0o644, local: name}
	switch {
	case info.IsDir():
		e.kind, e.mode = isDir, 0o755
	case info.Mode()&fs.ModeSymlink != 0:
		e.kind = isLink
		e.target, _ = os.Readlink(name)
	case info.Mode()&0o111 != 0:
		e.mode = 0o755
	}
	return e
}

// inRoot looks into the root payload. A local directory can be read, an
// archive or image only when a build has left its list.
func (c *contents) inRoot(p string) entry {
	root := c.r.Root
	switch {
	case root == nil:
		return entry{}
	case root.Directory != "":
		e := hostEntry(filepath.Join(c.r.local(root.Directory), filepath.FromSlash(p)))
		e.at = "root.directory"
		return e
	case c.facts.RootFiles == nil:
		return entry{kind: unknown}
	}
	if mode, ok := c.facts.RootFiles[strings.TrimPrefix(p, "/")]; ok {
		e := entry{kind: unknown, mode: mode.Perm()}
		if mode.IsDir() {
			e.kind = isDir
		}
		return e
	}
	return entry{}
}

// maxLinks is how many symbolic links a lookup follows, as in Linux (MAXSYMLINKS).
const maxLinks = 40

// resolve follows links to the entry that a path means. The second result is
// the last path that was looked at, to tell where a chain breaks.
func (c *contents) resolve(p string) (entry, string) {
	for range maxLinks {
		e, at, rest := c.step(p)
		if e.kind != isLink {
			return e, at
		}
		target := e.target
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(at), target)
		}
		p = path.Join(target, rest)
	}
	return entry{}, p
}

// step finds the first link along a path, or the entry at its end.
func (c *contents) step(p string) (e entry, at, rest string) {
	parts := strings.Split(strings.Trim(p, "/"), "/")
	for i := range parts {
		at = "/" + path.Join(parts[:i+1]...)
		if e = c.get(at); e.kind == isLink {
			return e, at, path.Join(parts[i+1:]...)
		}
	}
	return e, at, ""
}

// programs returns the paths of programs in the image, for suggestions.
func (c *contents) programs() []string {
	var out []string
	for p, e := range c.entries {
		if e.kind == isProgram || e.kind == isLink || e.kind == isFile && e.mode&0o111 != 0 {
			out = append(out, p)
		}
	}
	return out
}
