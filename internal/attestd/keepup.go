package attestd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/verifier"
)

// reloadEach is how often directories of releases are looked at.
const reloadEach = 5 * time.Second

// KeepUp reloads releases when they changed, and renews the certificate; a signal
// does both at once. It returns when the context ends.
func (s *Server) KeepUp(ctx context.Context, hup <-chan os.Signal) {
	look, renew := time.NewTicker(reloadEach), time.NewTicker(12*time.Hour)
	defer look.Stop()
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			s.renew()
		case <-hup:
			s.renew()
			s.Reload(ctx)
		case <-look.C:
			if s.Changed() {
				s.Reload(ctx)
			}
		}
	}
}

// Reload reads the releases again, and goes on with what there was when a
// directory cannot be read. One caller at a time.
func (s *Server) Reload(ctx context.Context) {
	if err := s.load(ctx); err != nil {
		s.Log.Error("releases stay as they were", "error", err.Error())
		return
	}
	Tell(s.Log, s.Catalog)
}

// Tell writes what releases there are to a log.
func Tell(log *slog.Logger, c *verifier.Catalog) {
	for _, r := range c.Refused {
		args := []any{"dir", r.Dir, "reason", r.Reason}
		if r.Hint != "" {
			args = append(args, "hint", r.Hint)
		}
		log.Warn("release refused", args...)
	}
	var list []string
	for _, r := range c.Releases {
		list = append(list, r.Name+" "+r.Version)
	}
	log.Info("releases", "loaded", len(list), "are", strings.Join(list, "; "))
}

// Renew makes the certificate again when its end is near; the operator's own is read again,
// and has to be of the same key: machines bind their evidence to it.
func (s *Server) Renew() error {
	load := func() (tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			err = fmt.Errorf("read %s and %s: %w", s.Cert, s.Key, err)
		}
		return c, err
	}
	if s.by != nil {
		load = func() (tls.Certificate, error) {
			return verifier.ServerCertificate(s.State, *s.by, s.Names, time.Now())
		}
	}
	cert, err := load()
	if err == nil {
		err = s.server.SetCertificate(cert)
	}
	if err != nil {
		return fmt.Errorf("attestation: %w", err)
	}
	return nil
}

func (s *Server) renew() {
	if err := s.Renew(); err != nil {
		s.Log.Error("certificate stays as it was", "error", err.Error())
	}
}
