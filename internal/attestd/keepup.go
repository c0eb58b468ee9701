package attestd

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/verifier"
)

// reloadEach is how often directories of releases are looked at.
const reloadEach = 5 * time.Second

// KeepUp reloads releases when they changed or a signal comes, and renews the
// certificate, until the context ends.
func (s *Server) KeepUp(ctx context.Context, hup <-chan os.Signal) {
	look, renew := time.NewTicker(reloadEach), time.NewTicker(12*time.Hour)
	defer look.Stop()
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			s.Renew()
		case <-hup:
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
		log.Warn("release refused", "dir", r.Dir, "reason", r.Reason)
	}
	var list []string
	for _, r := range c.Releases {
		list = append(list, r.Name+" "+r.Version)
	}
	log.Info("releases", "loaded", len(list), "are", strings.Join(list, "; "))
}

// Renew makes the certificate again when its end is near.
func (s *Server) Renew() {
	if s.by == nil {
		return
	}
	cert, err := verifier.ServerCertificate(s.State, *s.by, s.Names, time.Now())
	if err == nil {
		err = s.server.SetCertificate(cert)
	}
	if err != nil {
		s.Log.Error("certificate is not renewed", "error", err.Error())
	}
}
