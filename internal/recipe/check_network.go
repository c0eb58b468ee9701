package recipe

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
)

// listener is one port that something on the machine claims.
type claim struct {
	port    int
	at, who string
}

// ports finds two programs that want one port, and users that may not have one.
func (e *examiner) ports() {
	claims := []claim{{e.managementPort(), "management.listen", "the management listener"}}
	for i := range e.r.Services {
		s := &e.r.Services[i]
		own := serviceClaim(fmt.Sprintf("services[%d]", i), s)
		if own.port == 0 {
			continue
		}
		e.privileged(own, s)
		if j := slices.IndexFunc(claims, func(c claim) bool { return c.port == own.port }); j >= 0 {
			e.add(own.at, "give one of them another port", "port %d is wanted by %s and by service %s", own.port, claims[j].who, s.Name)
			continue
		}
		claims = append(claims, own)
	}
}

func (e *examiner) managementPort() int {
	_, port, _ := net.SplitHostPort(e.r.Management.Listen)
	n, _ := strconv.Atoi(port)
	return n
}

// serviceClaim is the port that a service's own check asks, or that it is told to listen on.
func serviceClaim(at string, s *appliance.Service) claim {
	who := "service " + s.Name
	if h := s.Health; h != nil && h.TCP != 0 {
		return claim{h.TCP, at + ".health.tcp", who}
	} else if h != nil && h.HTTP != nil {
		return claim{h.HTTP.Port, at + ".health.http.port", who}
	}
	for j, a := range s.Args {
		if m := listenArg.FindStringSubmatch(a); m != nil {
			n, _ := strconv.Atoi(m[1])
			return claim{n, fmt.Sprintf("%s.args[%d]", at, j), who}
		}
	}
	return claim{}
}

// listenArg is an argument that says only where to listen: ":8080", "-listen=:8080".
var listenArg = regexp.MustCompile(`^(?:-{1,2}[a-z.-]*(?:listen|addr|bind|address)[a-z.-]*=)?(?:0\.0\.0\.0|\[::\])?:([0-9]{1,5})$`)

// privileged: ports below 1024 need a capability (ip_unprivileged_port_start,
// ip(7)), and ingot-init drops all that are not listed, from root as well.
func (e *examiner) privileged(c claim, s *appliance.Service) {
	if c.port < 1024 && !slices.Contains(s.Capabilities, "NET_BIND_SERVICE") {
		e.add(c.at, "add capabilities: [NET_BIND_SERVICE], or use a port from 1024 on", "service %s may not listen on port %d: it has no capability NET_BIND_SERVICE", s.Name, c.port)
	}
}

// smokePorts finds HTTP expectations that nothing can answer.
func (e *examiner) smokePorts() {
	for i, s := range e.r.Smoke {
		if s.HTTP == nil {
			continue
		}
		at := fmt.Sprintf("smoke[%d].http", i)
		switch {
		case len(e.r.Network) == 0:
			e.add(at, "describe the network under network:", "smoke test %s asks over HTTP, but the machine has no network", s.Name)
		case s.HTTP.Port == e.managementPort() || e.mentions(s.HTTP.Port):
		case len(e.r.Services) == 0 && e.r.Root == nil:
			e.add(at+".port", "describe the service under services:", "smoke test %s asks port %d, but there is no service", s.Name, s.HTTP.Port)
		case e.allClaimed():
			e.add(at+".port", "ask one of the ports "+e.claimedPorts(), "smoke test %s asks port %d, on which no service listens", s.Name, s.HTTP.Port)
		default:
			e.warn(at+".port", "check the number", "smoke test %s asks port %d, which no service mentions", s.Name, s.HTTP.Port)
		}
	}
}

// mentions tells whether any service's words contain a port number.
func (e *examiner) mentions(port int) bool {
	word := regexp.MustCompile(`(^|[^0-9])` + strconv.Itoa(port) + `([^0-9]|$)`)
	for i := range e.r.Services {
		s := &e.r.Services[i]
		if serviceClaim("", s).port == port || slices.ContainsFunc(s.Args, word.MatchString) {
			return true
		}
		for _, v := range s.Env {
			if word.MatchString(v) {
				return true
			}
		}
	}
	return slices.ContainsFunc(e.r.Files, func(f File) bool { return f.Content != nil && word.MatchString(*f.Content) })
}

// allClaimed tells whether the port of every service is known: then another port is a mistake for sure.
func (e *examiner) allClaimed() bool {
	return e.r.Root == nil && !slices.ContainsFunc(e.r.Services, func(s appliance.Service) bool { return serviceClaim("", &s).port == 0 })
}

func (e *examiner) claimedPorts() string {
	var out []string
	for i := range e.r.Services {
		out = append(out, strconv.Itoa(serviceClaim("", &e.r.Services[i]).port))
	}
	return strings.Join(append(out, strconv.Itoa(e.managementPort())), ", ")
}

// resolvers finds time servers by name on machines that cannot resolve names.
func (e *examiner) resolvers() {
	if len(e.r.NTP) == 0 {
		return
	}
	if len(e.r.Network) == 0 {
		e.add("ntp", "describe the network under network:", "ntp is given, but the machine has no network")
		return
	}
	if slices.ContainsFunc(e.r.Network, func(l appliance.Interface) bool { return l.DHCP || l.RA || len(l.DNS) > 0 }) {
		return
	}
	for i, s := range e.r.NTP {
		if _, err := netip.ParseAddr(s); err != nil {
			e.add(fmt.Sprintf("ntp[%d]", i), "add dns: to the network, or give the server's address", "ntp server %s is a name, but the machine has no resolver", s)
		}
	}
}

// stateDirectories finds one directory given to two different users: the
// second start would take it from the first.
func (e *examiner) stateDirectories() {
	first := map[string]*appliance.Service{}
	for i := range e.r.Services {
		s := &e.r.Services[i]
		if s.StateDirectory == "" {
			continue
		}
		if o := first[s.StateDirectory]; o != nil && o.User != s.User {
			e.add(fmt.Sprintf("services[%d].stateDirectory", i), "give each its own, or the same user", "services %s and %s run as different users and keep state in the same directory %s", o.Name, s.Name, s.StateDirectory)
			continue
		}
		first[s.StateDirectory] = s
	}
}

// oneJob warns about an image that boots and then does nothing.
func (e *examiner) oneJob() {
	if len(e.r.Services) == 0 && e.r.Root == nil {
		e.warn("", "describe what the machine runs under services:", "the appliance has no service: it would boot and do nothing")
	}
	for i, s := range e.r.Services {
		if h := s.Health; h != nil && h.Timeout > h.Interval {
			e.warn(fmt.Sprintf("services[%d].health.timeout", i), "make timeout shorter than interval", "service %s: one check may take %s, longer than the %s between two", s.Name, h.Timeout, h.Interval)
		}
	}
}
