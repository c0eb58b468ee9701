package recipe

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Local tells whether the package is a directory beside the recipe rather than module@version.
func (p Program) Local() bool { return isLocalPackage(p.Package) }

// Or returns the mode as io/fs has it, with its setuid, setgid and sticky
// bits, or def when the recipe gives none.
func (m Mode) Or(def fs.FileMode) fs.FileMode {
	if m == 0 {
		return def
	}
	out := fs.FileMode(m) & fs.ModePerm
	for bit, mode := range map[Mode]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			out |= mode
		}
	}
	return out
}

// Owner turns "app", "app:staff", "1000:1000" or "" into numbers. A user
// without a group gets the group of the same number.
func (r *Recipe) Owner(text string) (uid, gid uint32, err error) {
	user, group, both := strings.Cut(text, ":")
	if user == "" && !both {
		return 0, 0, nil
	}
	if uid, err = r.id(user); err != nil || !both {
		return uid, uid, err
	}
	gid, err = r.id(group)
	return uid, gid, err
}

// id finds the number of a user, which is also that of the group of the same name.
func (r *Recipe) id(name string) (uint32, error) {
	switch name {
	case "root":
		return 0, nil
	case "nobody", "nogroup":
		return 65534, nil
	}
	for _, u := range r.Users {
		if u.Name == name {
			return u.UID, nil
		}
	}
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil || n == 1<<32-1 { // chown(2) takes the last number as "do not change"
		return 0, fmt.Errorf("find owner %q: not a user of the recipe", name)
	}
	return uint32(n), nil
}

// ESPPath is the entry's path with slashes: /EFI/memtest/memtest.efi.
func (e Entry) ESPPath() string { return strings.ReplaceAll(e.EFI, `\`, "/") }
