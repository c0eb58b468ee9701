package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/pxe/dhcpd"
)

// Options are what a server is made of.
type Options struct {
	Config *Config
	// Reread gives the configuration anew at a reload; nil: it does not change.
	Reread func() (*Config, error)
	Log    *slog.Logger
	// Warn and Hint speak to who starts the server.
	Warn, Hint func(format string, args ...any)
	Set        *keys.Set                     // of Config.Keys; nil: there is none
	Policy     func() (attest.Policy, error) // of Config.Attest
	Version    string                        // of this program

	check bool   // nothing is to stay
	state string // of Config, for words
}

// part is a subsystem: it has its ports and all that it reads, and answers
// nobody before run.
type part struct {
	name  string
	run   func(ctx context.Context) error
	close func() // before run only
}

// listener is a port that is open.
type listener struct {
	Part    string `json:"part"`
	Key     string `json:"-"`
	Network string `json:"network"`
	Address string `json:"address"`
	Link    string `json:"interface,omitempty"`
	tcp     net.Listener
	trouble string // why it cannot be had, with Check
	hint    string
}

// Server is a boot server that is set up: all its ports are open, all that it
// needs was read.
type Server struct {
	o Options
	c *Config

	links     []Link
	listeners []*listener
	parts     []part
	metrics   *metrics
	site      *site
	api       *api          // nil: there is no attestation API
	dhcp      *dhcpd.Server // nil: there is no DHCP for IPv4

	mu sync.Mutex // one reload at a time
}

// Open checks everything, reads everything and opens all ports. After an error
// nothing is left open, and no state that was not there before.
func Open(ctx context.Context, o Options) (*Server, error) {
	s := &Server{o: o, c: o.Config, metrics: newMetrics(o.Version)}
	_, gone := os.Lstat(s.c.State)
	for _, step := range []func(context.Context) error{s.openLinks, s.openSite, s.openAPI, s.openMetrics, s.openHTTP, s.openTFTP, s.openDHCP, s.openDHCP6} {
		if err := step(ctx); err != nil {
			s.Close()
			if errors.Is(gone, fs.ErrNotExist) {
				os.RemoveAll(s.c.State)
			}
			return nil, err
		}
	}
	return s, nil
}

func (s *Server) openLinks(context.Context) (err error) {
	s.links, err = s.c.links()
	for _, l := range s.links {
		if l.loopback {
			s.o.Warn("interface %s is this machine's own loopback: no other machine asks there", l.Name)
		}
	}
	return err
}

// Close gives up a server that does not run.
func (s *Server) Close() {
	for _, l := range s.listeners {
		if l.tcp != nil {
			l.tcp.Close()
		}
	}
	for _, p := range s.parts {
		if p.close != nil {
			p.close()
		}
	}
	if s.site != nil {
		s.site.close()
	}
}

// listen opens a port of TCP.
func (s *Server) listen(ctx context.Context, part, key, address string) (net.Listener, error) {
	_, port, err := splitListen(address)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, s.troubled(listener{Part: part, Key: key, Network: "tcp", Address: address}, s.c.bindError(key, part, "tcp", port, err))
	}
	s.listeners = append(s.listeners, &listener{Part: part, Key: key, Network: "tcp", Address: l.Addr().String(), tcp: l})
	return l, nil
}

// port is that of an address of a listener.
func port(address string) int {
	_, text, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(text)
	return n
}

func (s *Server) partNames() (list []string) {
	for _, p := range s.parts {
		list = append(list, p.name)
	}
	return list
}

// Serve answers until the context ends; then transfers under way come to their
// end. When one part fails, all stop.
func (s *Server) Serve(ctx context.Context) error {
	if s.c.User != "" {
		if err := drop(s.c.User, s.c.State); err != nil {
			s.Close()
			return s.c.wrong("user", "user", "start it as root, or leave user away", "%v", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, len(s.parts))
	for _, p := range s.parts {
		go func() {
			err := p.run(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				err = fmt.Errorf("serve %s: %w", p.name, err)
			} else {
				err = nil
			}
			ended <- err
			stop()
		}()
	}
	notify("READY=1")
	s.o.Log.Info("serving", "parts", strings.Join(s.partNames(), " "))
	<-ctx.Done()
	notify("STOPPING=1")
	var errs []error
	for range s.parts {
		errs = append(errs, <-ended)
	}
	s.site.close()
	s.o.Log.Info("stopped")
	return errors.Join(errs...)
}
