package agent

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/appliance"
)

// searchPath is where a service finds programs by name.
const searchPath = "PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"

// resolveLocal turns a service of the initramfs into a command.
func (m *Machine) resolveLocal(s appliance.Service) (proc.Command, error) {
	if s.Command == "" {
		return proc.Command{}, fmt.Errorf("start service %s: it has no command of its own and there is no root", s.Name)
	}
	uid, gid, err := m.account(s.User)
	if err != nil {
		return proc.Command{}, err
	}
	c := proc.Command{Path: s.Command, Args: s.Args, Dir: s.Dir, UID: uid, GID: gid, Env: environ(nil, s.Env)}
	c.Caps, err = capabilities(s.Capabilities)
	return c, err
}

// account finds a user of the recipe, or a number.
func (m *Machine) account(name string) (uid, gid uint32, err error) {
	switch name {
	case "", "root":
		return 0, 0, nil
	case "nobody":
		return 65534, 65534, nil
	}
	for _, u := range m.spec.Users {
		if u.Name == name {
			return u.UID, u.UID, nil
		}
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(id), uint32(id), nil
	}
	return 0, 0, fmt.Errorf("find user %q: not in the image", name)
}

func capabilities(names []string) ([]uintptr, error) {
	var out []uintptr
	for _, n := range names {
		c, err := proc.Capability(n)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// environ is a clean environment: a path, a home, what the image says, then
// what the service says. Nothing of init's own (the kernel puts unknown command
// line words there) is passed on.
func environ(image []string, service map[string]string) []string {
	env := map[string]string{"HOME": "/"}
	k, v, _ := strings.Cut(searchPath, "=")
	env[k] = v
	for _, kv := range image {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	maps.Copy(env, service)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}
