package recipe

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// commands follows every command of services, health checks and smoke tests to
// the program that it means.
func (e *examiner) commands() {
	for i := range e.r.Services {
		s := &e.r.Services[i]
		at := fmt.Sprintf("services[%d]", i)
		who := "service " + s.Name
		e.command(at+".command", who, s.Command, s)
		if s.Health != nil && len(s.Health.Exec) > 0 {
			e.command(at+".health.exec[0]", who+"'s health check", s.Health.Exec[0], s)
		}
	}
	for i, s := range e.r.Smoke {
		if len(s.Command) > 0 {
			e.command(fmt.Sprintf("smoke[%d].command[0]", i), "smoke test "+s.Name, s.Command[0], &appliance.Service{})
		}
	}
}

func (e *examiner) command(at, who, command string, s *appliance.Service) {
	if command == "" || !path.IsAbs(command) || command != path.Clean(command) {
		return // Validate has said so
	}
	prog, last := e.image.resolve(command)
	switch {
	case prog.kind == unknown:
		e.skip(fmt.Sprintf("%s finds %s", who, command), "the root payload has not been read yet: run ingot build")
	case prog.kind == absent:
		e.missing(at, who, command, last)
	case prog.kind == isDir:
		e.add(at, "name the program itself", "%s runs %s, which is a directory", who, command)
	default:
		e.executable(at, who, command, s, prog)
	}
}

func (e *examiner) missing(at, who, command, last string) {
	what := fmt.Sprintf("%s runs %s, which is not in the image", who, command)
	if last != command {
		what += fmt.Sprintf(": %s does not exist", last)
	}
	e.add(at, e.commandHint(command), "%s", what)
}

// commandHint suggests where a missing program could come from.
func (e *examiner) commandHint(command string) string {
	programs := e.image.programs()
	slices.Sort(programs)
	base := path.Base(command)
	for _, p := range programs {
		if p != command && path.Base(p) == strictyaml.Nearest(base, []string{path.Base(p)}) {
			return "did you mean " + p + "?"
		}
	}
	switch {
	case base == "sh":
		return "add gosh to uroot: and a link: files: [{path: /bin/sh, symlink: gosh}]"
	case path.Dir(command) == "/bin" && slices.Contains(urootNames, base):
		return "add " + base + " to uroot:"
	case e.r.Root != nil:
		return "put it into the root payload, or add it with go:, uroot: or files:"
	}
	return "add it with go:, uroot: or files:"
}

func (e *examiner) executable(at, who, command string, s *appliance.Service, prog entry) {
	if prog.kind == isProgram {
		return
	}
	switch {
	case prog.mode&0o111 == 0:
		e.add(at, e.modeHint(prog, "0755"), "%s runs %s, which nobody may execute (mode %04o)", who, command, prog.mode)
		return
	case !e.permits(prog, s, 0o1):
		e.add(at, e.modeHint(prog, "0755"), "%s runs %s as %s, who may not execute it (mode %04o)", who, command, userName(s), prog.mode)
		return
	}
	if prog.local == "" && prog.text == nil {
		return // a download or a file of the payload: seen when it is built
	}
	e.format(at, who, command, prog)
}

func (e *examiner) modeHint(prog entry, mode string) string {
	switch {
	case prog.at == "" || strings.HasPrefix(prog.at, "root"):
		return "make it executable in the root payload"
	case prog.inTree:
		return "make the local file executable: chmod +x"
	}
	return "write mode: " + mode + " in " + prog.at
}

func (e *examiner) uid(user string) uint32 {
	if user == "" {
		return 0
	}
	id, err := e.r.id(user)
	if err != nil {
		return 0
	}
	return id
}

func userName(s *appliance.Service) string {
	if s.User == "" {
		return "root"
	}
	return s.User
}

// permits is the kernel's check for one permission bit: 4 read, 1 execute.
// Root without capabilities is a user like any other.
func (e *examiner) permits(f entry, s *appliance.Service, bit uint32) bool {
	uid := e.uid(s.User)
	switch {
	case slices.Contains(s.Capabilities, "DAC_OVERRIDE"), bit == 0o4 && slices.Contains(s.Capabilities, "DAC_READ_SEARCH"):
		return true
	case f.uid == uid:
		return uint32(f.mode)>>6&bit != 0
	case f.gid == uid: // every account has its own group of the same number
		return uint32(f.mode)>>3&bit != 0
	}
	return uint32(f.mode)&bit != 0
}

// readableFiles finds configuration that a service names but may not read, or
// that is not there.
func (e *examiner) readableFiles() {
	for i := range e.r.Services {
		s := &e.r.Services[i]
		for j, a := range s.Args {
			at := fmt.Sprintf("services[%d].args[%d]", i, j)
			if p := pathIn(a); p != "" {
				e.readable(at, s, p)
			}
		}
	}
}

// pathIn returns the absolute path that an argument is, or ends in: "-c=/etc/x".
func pathIn(arg string) string {
	if _, after, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "-") {
		arg = after
	}
	if !path.IsAbs(arg) || strings.ContainsAny(arg, "*?[ ,:") {
		return ""
	}
	return path.Clean(arg)
}

func (e *examiner) readable(at string, s *appliance.Service, p string) {
	f, last := e.image.resolve(p)
	switch {
	case f.kind == absent && (within(p, "/etc") || within(p, "/usr")) && e.r.Root == nil:
		e.warn(at, "add it with files:, or check the path", "service %s is given %s, which is not in the image", s.Name, last)
	case f.kind == isFile && f.at != "" && !e.permits(f, s, 0o4):
		e.add(at, fmt.Sprintf("write owner: %s in %s", userName(s), f.at), "service %s is given %s, which %s may not read (mode %04o)", s.Name, p, userName(s), f.mode)
	}
}

// workDirs wants every working directory to exist before the service starts.
func (e *examiner) workDirs() {
	for i, s := range e.r.Services {
		if s.Dir == "" || s.Dir != path.Clean(s.Dir) {
			continue
		}
		at := fmt.Sprintf("services[%d].dir", i)
		mount := e.r.Data.Mount
		if mount != "" && within(s.Dir, mount) {
			if s.Dir != mount && !e.isState(s.Dir) {
				e.add(at, "let ingot-init make it: stateDirectory: "+strings.TrimPrefix(s.Dir, mount+"/"), "service %s works in %s, which is not on a new data partition", s.Name, s.Dir)
			}
			continue
		}
		switch d, _ := e.image.resolve(s.Dir); d.kind {
		case absent:
			e.add(at, "add it with files:, or use a directory below the data partition", "service %s works in %s, which is not in the image", s.Name, s.Dir)
		case isFile, isProgram:
			e.add(at, "name a directory", "service %s works in %s, which is a file", s.Name, s.Dir)
		}
	}
}

// isState tells whether ingot-init makes a directory for some service.
func (e *examiner) isState(dir string) bool {
	return slices.ContainsFunc(e.r.Services, func(s appliance.Service) bool {
		return s.StateDirectory != "" && within(path.Join(e.r.Data.Mount, s.StateDirectory), dir)
	})
}

func (e *examiner) urootCommands() {
	for i, name := range e.r.URoot {
		if !slices.Contains(urootNames, name) {
			hint := "ls cmds/core in the u-root repository"
			if near := strictyaml.Nearest(name, urootNames); near != "" {
				hint = "did you mean " + near + "?"
			} else if name == "sh" || name == "bash" || name == "elvish" {
				hint = "u-root's shell is gosh"
			}
			e.add(fmt.Sprintf("uroot[%d]", i), hint, "u-root has no command %s", name)
		}
	}
}

// danglingLinks finds symbolic links of the recipe that lead nowhere.
func (e *examiner) danglingLinks() {
	for i, f := range e.r.Files {
		if f.Symlink == "" || f.Path == "" {
			continue
		}
		target := f.Symlink
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(f.Path), target)
		}
		if volatile(target, e.r.Data.Mount) {
			continue
		}
		if found, last := e.image.resolve(f.Path); found.kind == absent {
			e.add(fmt.Sprintf("files[%d].symlink", i), "add the target with files:, or correct the link", "%s points at %s, which is not in the image: %s does not exist", f.Path, f.Symlink, last)
		}
	}
}

// volatile tells whether a path is made at run time.
func volatile(p, mount string) bool {
	return mount != "" && within(p, mount) || slices.ContainsFunc(systemPaths, func(s string) bool { return within(p, s) })
}
