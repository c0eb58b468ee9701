package serve

import (
	"context"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/attestd"
)

// api is the attestation API.
type api = attestd.Server

// settings are the keys of serve.yaml behind the flags of ingot attest serve.
var settings = map[string]string{
	"ek-root": "attest.ekRoots", "deny-tpm": "attest.denyTPM", "revoked-ek": "attest.revokedEK", "require-chain": "attest.requireChain",
	"secrets": "attest.secrets", "cert": "attest.cert", "key": "attest.key", "policy": "attest.policy",
	"release": "releases", "insecure-releases": "insecureReleases",
}

// setting words a setting as it was given.
func (c *Config) setting(flag string) string {
	if c.File == "" {
		return "--" + flag
	}
	if key := settings[flag]; key != "" {
		return key
	}
	return flag
}

// catalogs are where releases are, and who may sign them.
func (c *Config) catalogs() attestd.Releases {
	return attestd.Releases{Release: c.Releases, Keys: c.Keys, Trust: c.Trust, Insecure: c.Insecure, Setting: c.setting}
}

// openAPI opens the attestation API.
func (s *Server) openAPI(ctx context.Context) error {
	if s.c.Attest.Off {
		return nil
	}
	a := s.c.Attest
	s.api = &api{Store: s.site.store, Options: attestd.Options{
		Releases: s.c.catalogs(), State: s.c.State, Set: s.o.Set, Names: s.names(), Cert: a.Cert, Key: a.Key,
		Interval: time.Duration(a.Interval), Policy: s.o.Policy, Secrets: a.Secrets, EKRoot: a.EKRoots, RequireChain: a.RequireChain, DenyTPM: a.DenyTPM, RevokedEK: a.RevokedEK,
		Log: slog.New(verdicts{s.o.Log.Handler(), s.metrics}), Warn: s.o.Warn, Hint: s.o.Hint, Netboot: s.site.netboot(), Boots: s.site.boots,
	}}
	if err := s.api.Assemble(ctx); err != nil {
		return err
	}
	if err := s.api.Use(ctx, s.site.catalog); err != nil {
		return err
	}
	l, err := s.listen(ctx, "attest", "attest.listen", a.Listen)
	if err != nil {
		return err
	}
	s.parts = append(s.parts, part{name: "attest", run: func(ctx context.Context) error {
		s.o.Log.Info("attestation", "on", l.Addr().String(), "names", strings.Join(s.api.Names, " "), "id", hex.EncodeToString(s.api.ID), "interval", a.Interval.String())
		return s.api.Serve(ctx, l)
	}})
	return nil
}
