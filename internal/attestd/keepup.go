package attestd

import (
	"context"
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
			s.renew()
		case <-hup:
			s.Reload(ctx)
		case <-look.C:
			if s.fingerprint() != s.seen {
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
		s.seen = s.fingerprint()
		return
	}
	for _, r := range s.Catalog.Refused {
		s.Log.Warn("release refused", "dir", r.Dir, "reason", r.Reason)
	}
	var list []string
	for _, r := range s.Catalog.Releases {
		list = append(list, r.Name+" "+r.Version)
	}
	s.Log.Info("releases", "loaded", len(list), "are", strings.Join(list, "; "))
}

func (s *Server) renew() {
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
