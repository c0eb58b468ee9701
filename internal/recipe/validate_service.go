package recipe

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

func (c *checker) services() {
	var names []string
	for i := range c.r.Services {
		s := &c.r.Services[i]
		at := fmt.Sprintf("services[%d]", i)
		names = append(names, s.Name)
		c.cleanPath(at+".command", s.Command)
		if s.Command == "" && (c.r.Root == nil || c.r.Root.OCI == "") {
			c.add(at+".command", "add command: /bin/"+s.Name, "%s.command is missing", at)
		}
		c.cleanPath(at+".dir", s.Dir)
		c.serviceUser(at, s)
		c.twice(at+".capabilities", "", s.Capabilities)
		if s.Restart.Max < s.Restart.Backoff {
			c.add(at+".restart.max", "make max at least as long as backoff", "%s.restart.max is %s, less than the first wait of %s", at, s.Restart.Max, s.Restart.Backoff)
		}
		c.health(at+".health", s)
		c.noZero(at+".args", s.Args)
		c.stateDirectory(at+".stateDirectory", s)
		c.secrets(at+".secrets", s)
	}
	c.twice("services", "name", names)
	c.dependencies(names)
}

func (c *checker) stateDirectory(at string, s *appliance.Service) {
	switch dir := s.StateDirectory; {
	case dir == "":
	case !filepath.IsLocal(dir) || dir != path.Clean(dir) || dir == ".":
		c.add(at, "want a name below the data mount, such as "+s.Name, "%s is %q: not a clean relative path", at, dir)
	case c.r.Data.Disabled:
		c.add(at, "remove data.disabled, or keep state in /run", "service %s keeps state in %s, but there is no data partition", s.Name, dir)
	}
}

// noZero refuses texts that execve(2) cannot pass.
func (c *checker) noZero(at string, words []string) {
	for i, w := range words {
		if strings.ContainsRune(w, 0) {
			c.add(fmt.Sprintf("%s[%d]", at, i), "remove the zero byte", "%s[%d] holds a zero byte, which no argument can", at, i)
		}
	}
}

func (c *checker) serviceUser(at string, s *appliance.Service) {
	if s.User == "" || slices.Contains(c.r.userNames(), s.User) {
		return
	}
	hint := fmt.Sprintf("add it: users: [{name: %s, uid: 1000}]", s.User)
	if near := strictyaml.Nearest(s.User, c.r.userNames()); near != "" {
		hint = "did you mean " + near + "?"
	}
	c.add(at+".user", hint, "service %s runs as %q, which is no user of this recipe", s.Name, s.User)
}

func (c *checker) health(at string, s *appliance.Service) {
	h := s.Health
	if h == nil {
		return
	}
	if len(h.Exec) > 0 {
		c.cleanPath(at+".exec[0]", h.Exec[0])
		c.noZero(at+".exec", h.Exec)
	}
	if s.Restart.Policy == "never" && len(s.Command) > 0 && h.Interval <= 0 {
		c.add(at, "remove the check", "service %s runs once and has a check", s.Name)
	}
}

// dependencies checks after: for names that do not exist and for cycles.
func (c *checker) dependencies(names []string) {
	for i, s := range c.r.Services {
		seen := map[string]bool{}
		for j, dep := range s.After {
			at := fmt.Sprintf("services[%d].after[%d]", i, j)
			switch {
			case dep == s.Name:
				c.add(at, "remove it", "service %s waits for itself", s.Name)
			case !slices.Contains(names, dep):
				c.add(at, strictyaml.Choices(dep, names), "service %s waits for %q, which does not exist", s.Name, dep)
			case seen[dep]:
				c.add(at, "remove one", "service %s waits for %s twice", s.Name, dep)
			}
			seen[dep] = true
		}
	}
	if cycle := findCycle(c.r.Services); len(cycle) > 0 {
		i := slices.Index(names, cycle[0])
		c.add(fmt.Sprintf("services[%d].after", i), "remove one of these after: entries", "services wait for each other in a circle: %s", strings.Join(cycle, " -> "))
	}
}

// findCycle returns the names along the first circle of two or more services,
// the first one repeated at the end.
func findCycle(services []appliance.Service) []string {
	after := map[string][]string{}
	for _, s := range services {
		after[s.Name] = s.After
	}
	const visiting, done = 1, 2
	state := map[string]int{}
	var stack, cycle []string
	var visit func(name string)
	visit = func(name string) {
		state[name] = visiting
		stack = append(stack, name)
		for _, dep := range after[name] {
			if cycle != nil || dep == name || after[dep] == nil && state[dep] == 0 {
				continue
			}
			switch state[dep] {
			case 0:
				visit(dep)
			case visiting:
				cycle = append(slices.Clone(stack[slices.Index(stack, dep):]), dep)
			}
		}
		stack = stack[:len(stack)-1]
		state[name] = done
	}
	for _, s := range services {
		if state[s.Name] == 0 && cycle == nil {
			visit(s.Name)
		}
	}
	return cycle
}

func (c *checker) smoke() {
	var names []string
	for i, s := range c.r.Smoke {
		at := fmt.Sprintf("smoke[%d]", i)
		names = append(names, s.Name)
		if len(s.Command) > 0 {
			c.cleanPath(at+".command[0]", s.Command[0])
			c.noZero(at+".command", s.Command)
		}
	}
	c.twice("smoke", "name", names)
}
