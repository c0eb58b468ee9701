package serve

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/attestd"
)

// lookEach is how often releases and rules are looked at for changes.
const lookEach = 5 * time.Second

// renewEach is how often certificates are looked at: they are made again 30 days
// before their end.
const renewEach = 12 * time.Hour

// KeepUp follows changes of releases and rules, reads all again at a signal, and
// renews certificates, until the context ends.
func (s *Server) KeepUp(ctx context.Context, hup <-chan os.Signal) {
	look, renew := time.NewTicker(lookEach), time.NewTicker(renewEach)
	defer look.Stop()
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			if err := s.renewAll(); err != nil {
				s.o.Log.Error("certificates: not taken over", "error", err.Error())
			}
		case <-hup:
			s.Reload(ctx)
		case <-look.C:
			s.refresh(ctx)
		}
	}
}

// refresh reads what has changed of releases and rules.
func (s *Server) refresh(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.site.releases.Changed() {
		s.note("releases", s.loadReleases(ctx))
	}
	if s.site.rulesChanged() {
		s.note("rules", s.site.loadRules(ctx))
	}
}

// Reload reads the configuration, certificates, releases and rules again, and reports
// whether all of them could be. What cannot be read stays as it was, and the log says why.
// Transfers under way go on.
func (s *Server) Reload(ctx context.Context) (all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = true
	if s.o.Reread != nil {
		c, err := s.o.Reread()
		if err == nil {
			err = s.take(c)
		}
		all = s.note("configuration", err)
	}
	all = s.note("certificates", s.renewAll()) && all
	all = s.note("releases", s.loadReleases(ctx)) && all
	return s.note("rules", s.site.loadRules(ctx)) && all
}

// note says how a reload went. Callers hold s.mu.
func (s *Server) note(what string, err error) (ok bool) {
	if errors.Is(err, context.Canceled) {
		return false // the server stops
	}
	if err != nil {
		s.metrics.reloads.WithLabelValues("failed").Inc()
		s.o.Log.Error(what+": not taken over", "error", err.Error())
		return false
	}
	s.metrics.reloads.WithLabelValues("ok").Inc()
	s.metrics.reloaded.SetToCurrentTime()
	if what == "configuration" {
		s.o.Log.Info("configuration is read")
	}
	return true
}

// loadReleases gives the parts the releases that there are now.
func (s *Server) loadReleases(ctx context.Context) error {
	catalog, err := s.site.releases.Load()
	if err != nil {
		return err
	}
	o, err := s.site.check(ctx, catalog)
	if err != nil {
		return err
	}
	if s.api != nil {
		if err := s.api.Use(ctx, catalog); err != nil {
			return err
		}
	}
	if err := s.site.use(ctx, o); err != nil {
		return err
	}
	attestd.Tell(s.o.Log, catalog)
	return nil
}

// take takes over what can change while the server runs, and says which changes
// need a restart.
func (s *Server) take(c *Config) error {
	next := s.c.with(c)
	if s.dhcp != nil {
		if err := s.dhcp.Reload(s.dhcpConfig(next)); err != nil {
			return next.policyError(err)
		}
	}
	if keys := restart(next, c); len(keys) > 0 {
		s.o.Log.Warn("changes that need a restart", "keys", strings.Join(keys, " "))
	}
	s.c = next
	s.site.take(next)
	return nil
}

// with is what the server goes on with: of another configuration what counts at once,
// the rest as it was. Subnets are of a mode, so with another mode they stay, too.
func (c *Config) with(new *Config) *Config {
	next := *c
	next.File, next.doc, next.Address = new.File, new.doc, new.Address
	next.Releases, next.Trust, next.Insecure = new.Releases, new.Trust, new.Insecure
	next.Default, next.Rules, next.Machines = new.Default, new.Rules, new.Machines
	next.HTTPS.Prefer = new.HTTPS.Prefer && c.HTTPS.On
	if new.DHCP.Mode == c.DHCP.Mode {
		next.DHCP.Subnets, next.DHCP.Relays, next.DHCP.Trust, next.DHCP.Reservations = new.DHCP.Subnets, new.DHCP.Relays, new.DHCP.Trust, new.DHCP.Reservations
	}
	return &next
}

// restart names the keys that the server goes on without, until it is started anew.
func restart(next, new *Config) []string {
	return differing("", reflect.ValueOf(*next), reflect.ValueOf(*new))
}

func differing(prefix string, a, b reflect.Value) (list []string) {
	for i := range a.NumField() {
		name := a.Type().Field(i).Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		x, y := a.Field(i), b.Field(i)
		switch {
		case reflect.DeepEqual(x.Interface(), y.Interface()):
		case prefix == "" && x.Kind() == reflect.Struct && name != "address":
			list = append(list, differing(name+".", x, y)...)
		default:
			list = append(list, prefix+name)
		}
	}
	return list
}

// renewAll makes certificates of the key set again whose end is near, and reads those of the
// operator again. What is under way goes on with the certificate that it began with.
func (s *Server) renewAll() error {
	var errs []error
	if s.api != nil {
		errs = append(errs, s.api.Renew())
	}
	for _, renew := range s.site.renew {
		errs = append(errs, renew())
	}
	return errors.Join(errs...)
}
