package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/network"
	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition/verity"
)

// rootDir is where the verity root is mounted.
const rootDir = "/run/ingot/root"

// rootfs is the verity root: where services find their programs. Init itself
// stays in the initramfs (S20).
type rootfs struct {
	m      *Machine
	image  appliance.Root
	places []proc.Place
	volume disk.Verity

	mu     sync.Mutex
	spaces map[string]*proc.Namespace // by service
}

// mountRoot opens the root payload of the booted slot.
func (m *Machine) mountRoot() {
	r := m.spec.Root
	if r == nil {
		return
	}
	st := listener.Root{State: "mounted", Format: r.Format}
	st.RootHash, _ = m.cmdline.Get("ingot.roothash")
	volume, err := m.openRoot(*r, st.RootHash)
	st.Device = volume.Device
	var fs *rootfs
	if err != nil {
		st.State, st.Error = "failed", err.Error()
		if isCorrupt(volume, err) {
			st.State = "corrupt"
		}
		m.problem("root: %v", err)
	} else {
		fs = &rootfs{m: m, image: *r, places: m.places(), volume: volume, spaces: map[string]*proc.Namespace{}}
	}
	m.update(func(s *listener.Status) { s.Root, m.rootfs = &st, fs })
}

// isCorrupt says that a root could not be opened because of what the partition
// holds: no superblock, or a first block that does not match.
func isCorrupt(v disk.Verity, err error) bool {
	var format *verity.FormatError
	corrupt, unknown := v.Corrupt()
	return errors.As(err, &format) || unknown == nil && corrupt
}

// rootPartition is the root that belongs to the booted slot. Started from the
// ESP as an appliance, the machine has no slot; the image in a is as good.
func (m *Machine) rootPartition() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.Boot.Slot == "b" {
		return "root-b"
	}
	return "root-a"
}

// rootNode waits for the device of the root partition.
func (m *Machine) rootNode() (string, error) {
	if m.disk == nil {
		return "", errors.New("no disk with a root partition")
	}
	part := m.rootPartition()
	m.devices.Wait(m.ctx, settleTime, func() bool { return m.disk.NodeOf(part) != "" })
	node := m.disk.NodeOf(part)
	if node == "" {
		return "", fmt.Errorf("find partition %s: not on %s", part, m.disk.Node)
	}
	return node, nil
}

func (m *Machine) openRoot(r appliance.Root, hash string) (v disk.Verity, err error) {
	if hash == "" {
		return v, errors.New("the command line has no ingot.roothash")
	}
	v = disk.Verity{Name: "ingot-root", DataBlocks: r.DataBlocks, HashStart: r.HashStart, RootHash: hash}
	if m.isRAM() {
		node, dev, err := m.fetchRoot(r)
		if err != nil {
			again := stopRequest{why: "the root payload has not come: the boot server is asked again"}
			m.spawn("come back", func() { m.comeBackLater(again) })
			return v, err
		}
		defer dev.Close()
		v.Device = node
	} else if v.Device, err = m.rootNode(); err != nil {
		return v, err
	}
	_ = m.devices.Load("dm_verity") // built in, or the next step says what is missing
	_ = m.devices.Load(r.Format)
	node, err := v.Open()
	if err != nil {
		return v, err
	}
	if err := os.MkdirAll(rootDir, 0o755); err != nil {
		return v, err
	}
	_, err = mount.Mount(node, rootDir, r.Format, "", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV)
	return v, err
}

// check looks whether the kernel has met a damaged block since the root was
// opened: readers get an error, and the machine is not healthy any more.
func (r *rootfs) check(s *listener.Status) {
	corrupt, err := r.volume.Corrupt()
	if err == nil && !corrupt {
		return
	}
	root := *s.Root // the standing status is not changed
	root.State, root.Error = "corrupt", fmt.Sprintf("a block of %s does not match the root hash", root.Device)
	if err != nil {
		root.State, root.Error = "unknown", err.Error()
	}
	s.Root = &root
	s.Problems = append(s.Problems, "root: "+root.Error)
	s.Reasons = append(s.Reasons, "root: "+root.Error)
}

// places is what a service sees of the machine in its root.
func (m *Machine) places() []proc.Place {
	p := []proc.Place{
		{Path: "/proc", Source: "/proc"},
		{Path: "/sys", Source: "/sys", Flags: unix.MS_RDONLY | noExec},
		{Path: "/dev", Source: "/dev"},
		{Path: "/tmp", Opts: "mode=1777,size=25%", Flags: noDev},
		{Path: "/run", Opts: "mode=0755,size=10%", Flags: noDev},
		{Path: "/etc/resolv.conf", Source: network.ResolvConf, Flags: unix.MS_RDONLY | noExec},
		{Path: "/etc/hosts", Source: "/etc/hosts", Flags: unix.MS_RDONLY | noExec},
	}
	if m.spec.Data.Mount != "" {
		p = append(p, proc.Place{Path: m.spec.Data.Mount, Source: m.spec.Data.Mount})
	}
	if file := m.place(schemaFile); exists(file) {
		p = append(p, proc.Place{Path: file, Source: file, Flags: unix.MS_RDONLY | noExec})
	}
	// Guaranteed by the image where the root has none: certificates, time zones.
	for _, dir := range []string{"/etc/ssl/certs", "/usr/share/zoneinfo"} {
		_, inImage := os.Stat(dir)
		_, inRoot := os.Stat(filepath.Join(rootDir, dir))
		if inImage == nil && inRoot != nil {
			p = append(p, proc.Place{Path: dir, Source: dir, Flags: unix.MS_RDONLY | noDev})
		}
	}
	return p
}

// space returns the namespace of a service; it outlives restarts.
func (r *rootfs) space(name string) (*proc.Namespace, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ns, ok := r.spaces[name]; ok {
		return ns, nil
	}
	places := r.places
	if r.m.hasSecrets(name) {
		dir, err := r.m.makeSecretsDir(name)
		if err != nil {
			return nil, err
		}
		// Its own directory and no other; the directory is bound, not the files,
		// so that a secret which is exchanged is seen.
		places = append(slices.Clip(places), proc.Place{Path: dir, Source: dir, Flags: unix.MS_RDONLY | noExec})
	}
	work := filepath.Join("/run/ingot/view", name)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	ns, err := proc.View{Root: rootDir, Work: work, Places: places}.Namespace()
	if err == nil {
		r.spaces[name] = ns
	}
	return ns, err
}

// close gives up the namespaces; their mounts end with the last process.
func (r *rootfs) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, ns := range r.spaces {
		ns.Close()
		delete(r.spaces, name)
	}
}

// resolve turns a service into a command: a program of the root or, when the
// root has no such file, of the initramfs. A service without a command is the
// image's own: its entry point, working directory and user (OCI image
// specification, config).
func (r *rootfs) resolve(s appliance.Service) (proc.Command, error) {
	ns, err := r.space(s.Name)
	if err != nil {
		return proc.Command{}, err
	}
	c := proc.Command{Path: s.Command, Args: s.Args, Dir: s.Dir, Space: ns, Env: environ(r.image.Env, s.Env)}
	user := s.User
	if s.Command == "" {
		argv := imageCommand(r.image, s.Args)
		if len(argv) == 0 {
			return c, fmt.Errorf("start service %s: neither it nor the root's image names a command", s.Name)
		}
		c.Path, c.Args = argv[0], argv[1:]
		if c.Dir == "" {
			c.Dir = r.image.WorkingDir
		}
		if user == "" {
			user = r.image.User
		}
	}
	if c.Caps, err = capabilities(s.Capabilities); err != nil {
		return c, err
	}
	err = ns.Do(func() (err error) {
		if c.UID, c.GID, err = r.account(user); err != nil {
			return err
		}
		c.Path, err = proc.Look(c.Path, pathOf(c.Env))
		return err
	})
	if errors.Is(err, os.ErrNotExist) && s.Command != "" {
		if _, local := os.Stat(s.Command); local == nil {
			return r.m.resolveLocal(s)
		}
	}
	return c, err
}

// imageCommand is what a container image starts: its entry point with its own
// arguments, which those of the service replace.
func imageCommand(image appliance.Root, args []string) []string {
	if len(args) == 0 {
		args = image.Cmd
	}
	return slices.Concat(image.Entrypoint, args)
}

func pathOf(env []string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			return v
		}
	}
	return ""
}

// account finds USER or USER:GROUP, by name or number: first among the
// recipe's users, then in the root's own files. It runs inside the namespace.
func (r *rootfs) account(name string) (uid, gid uint32, err error) {
	user, group, _ := strings.Cut(name, ":")
	uid, gid, err = r.m.account(user)
	if err != nil {
		if uid, gid, err = lookup("/etc/passwd", user); err != nil {
			return 0, 0, err
		}
	} else if _, primary, err := lookup("/etc/passwd", user); err == nil {
		gid = primary
	}
	if group != "" {
		gid, _, err = lookup("/etc/group", group)
	}
	return uid, gid, err
}

// lookup finds a name or number in passwd(5) or group(5) and returns the third
// field and, in passwd, the fourth.
func lookup(file, name string) (id, group uint32, err error) {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[0] != name && f[2] != name {
			continue
		}
		n, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("find %q in %s: %w", name, file, err)
		}
		g, _ := strconv.ParseUint(f[3], 10, 32) // in group(5) this is the members
		return uint32(n), uint32(g), nil
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), uint32(n), nil
	}
	return 0, 0, fmt.Errorf("find %q in %s: no such name", name, file)
}
