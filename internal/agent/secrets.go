package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ingot-os/ingot/internal/agent/clock"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/agent/supervise"
	"github.com/ingot-os/ingot/internal/appliance"
)

// Places of what the server gives to an attested machine, below runDir. That is
// memory, so nothing of it outlives the boot.
const (
	runDir      = "/run/ingot"
	secretsDir  = "secrets"  // one directory for each service
	identityDir = "identity" // cert.pem and key.pem, for root alone
)

// place is a path below runDir.
func (m *Machine) place(elem ...string) string {
	return filepath.Join(append([]string{cmp.Or(m.runtime, runDir)}, elem...)...)
}

// secretStore is what has come so far.
type secretStore struct {
	writing sync.Mutex // held while files are written
	mu      sync.Mutex
	values  map[string][]byte
}

// missing lists the secrets of a service that have not come.
func (s *secretStore) missing(svc appliance.Service) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, name := range svc.Secrets {
		if _, ok := s.values[name]; !ok {
			out = append(out, name)
		}
	}
	return out
}

// waitsFor says which secrets a service waits for; "" when for none.
func (s *secretStore) waitsFor(svc appliance.Service) string {
	switch names := s.missing(svc); len(names) {
	case 0:
		return ""
	case 1:
		return "secret " + names[0] + " has not come"
	default:
		return "secrets " + strings.Join(names, ", ") + " have not come"
	}
}

// take keeps secrets and reports which of them are new or changed.
func (s *secretStore) take(secrets []proof.Secret) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string][]byte{}
	}
	changed := map[string]bool{}
	for _, secret := range secrets {
		if old, ok := s.values[secret.Name]; !ok || !bytes.Equal(old, secret.Value) {
			s.values[secret.Name], changed[secret.Name] = secret.Value, true
		}
	}
	return changed
}

func (s *secretStore) get(name string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.values[name]
	return b, ok
}

// deliver takes what the server gives: the machine's identity, and secrets,
// which it writes for the services that name them. Services that waited for
// them start. A secret that cannot be written is a problem, but taken: its service
// owns the directory and may have put something in the way, and is given it again
// at its next start.
func (m *Machine) deliver(d proof.Delivery) error {
	var errs []error
	if d.Certificate != nil {
		errs = append(errs, m.keepIdentity(d))
		m.mu.Lock()
		m.certificate, m.key = d.Certificate, d.Key
		m.mu.Unlock()
	}
	changed := m.secrets.take(d.Secrets)
	for _, svc := range m.spec.Services {
		for _, name := range svc.Secrets {
			if changed[name] {
				if err := m.writeSecrets(svc); err != nil {
					m.problem("%v", err)
				}
				break
			}
		}
	}
	if len(changed) > 0 {
		m.releaseServices()
	}
	return errors.Join(errs...)
}

// keepIdentity writes the key first: a program that finds the certificate finds
// its key.
func (m *Machine) keepIdentity(d proof.Delivery) error {
	dir := m.place(identityDir)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, nobodys, nobodys)); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	for _, f := range []struct {
		name string
		b    []byte
	}{{"key.pem", d.Key}, {"cert.pem", d.Certificate}} {
		if err := replace(m.place(identityDir, f.name), f.b, 0o400, nobodys, nobodys); err != nil {
			return fmt.Errorf("keep identity: %w", err)
		}
	}
	return nil
}

// writeSecrets writes those secrets of a service that have come, for its user
// alone. It is called before each start too: who the user is may be known only
// when the service's root is there.
func (m *Machine) writeSecrets(svc appliance.Service) error {
	m.mu.Lock()
	super := m.super
	m.mu.Unlock()
	if super == nil || len(svc.Secrets) == 0 {
		return nil // written when the service starts
	}
	c, err := super.resolve(svc)
	if err != nil {
		return nil // it cannot start, and says so itself
	}
	return m.placeSecrets(svc, int(c.UID), int(c.GID))
}

// placeSecrets makes a service's directory and fills it: mode 0500 and files of
// mode 0400, of the service's user.
func (m *Machine) placeSecrets(svc appliance.Service, uid, gid int) error {
	if len(svc.Secrets) == 0 {
		return nil
	}
	m.secrets.writing.Lock()
	defer m.secrets.writing.Unlock()
	dir, err := m.makeSecretsDir(svc.Name)
	if err != nil {
		return fmt.Errorf("write secrets of %s: %w", svc.Name, err)
	}
	for _, name := range svc.Secrets {
		b, ok := m.secrets.get(name)
		if !ok {
			continue
		}
		if err := replace(filepath.Join(dir, name), b, 0o400, uid, gid); err != nil {
			return fmt.Errorf("write secret %s of %s: %w", name, svc.Name, err)
		}
	}
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o500)); err != nil {
		return fmt.Errorf("write secrets of %s: %w", svc.Name, err)
	}
	return nil
}

// hasSecrets reports whether a service of the image names secrets.
func (m *Machine) hasSecrets(service string) bool {
	for _, s := range m.spec.Services {
		if s.Name == service {
			return len(s.Secrets) > 0
		}
	}
	return false
}

// makeSecretsDir makes the directory of one service. Its parent can be passed
// through, but not listed.
func (m *Machine) makeSecretsDir(service string) (string, error) {
	dir := m.place(secretsDir, service)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.Chmod(m.place(secretsDir), 0o711)
}

// releaseServices starts the services whose secrets have all come.
func (m *Machine) releaseServices() {
	m.mu.Lock()
	super := m.super
	m.mu.Unlock()
	if super == nil {
		return
	}
	for i, svc := range super.services {
		if len(svc.Secrets) > 0 {
			super.send(supervise.Event{Kind: supervise.Held, Unit: i, Detail: m.secrets.waitsFor(svc)})
		}
	}
}

// prover is what the attester gets of this machine.
func (m *Machine) prover(a appliance.Attest) proof.Machine {
	var roots [][]byte
	if m.spec.Trust != nil {
		roots = m.spec.Trust.Server
	}
	return proof.Machine{
		Hostname: m.machine.Hostname, Prefix: m.spec.Name, Server: m.server, Fallback: m.fallback, Roots: roots,
		Interval: a.Interval.Or(time.Minute),
		TPM:      m.findTPM, InitLog: m.initLogBytes, Firmware: firmware("/sys/class/dmi/id"),
		EventLog:  func() ([]byte, error) { return os.ReadFile(firmwareLog) },
		FloorBase: func() (*int64, bool) { return m.volume.Base, m.spec.Data.Encrypt != "" },
		Floor:     m.floor, TimeKnown: m.timeKnown, SetTime: m.takeTime,
		Deliver: m.deliver, Logf: m.log.Printf,
		Report: func(st listener.Attestation) {
			m.update(func(s *listener.Status) { s.Attestation = st })
			m.verdict(st)
		},
	}
}

// server is the address of the server and who named it, in the order of S14.
func (m *Machine) server() (url, source string) {
	m.mu.Lock()
	net := m.network
	m.mu.Unlock()
	switch {
	case m.machine.Server != "":
		return m.machine.Server, "machine.yaml"
	case net != nil && net.Server() != "":
		return net.Server(), "dhcp"
	case m.spec.Attest != nil && m.spec.Attest.Server != "":
		return m.spec.Attest.Server, "recipe"
	}
	return "", ""
}

// fallback is the recipe's server when DHCP names another: its word is not signed.
func (m *Machine) fallback() (url, source string) {
	if _, by := m.server(); by == "dhcp" && m.spec.Attest != nil && m.spec.Attest.Server != "" {
		return m.spec.Attest.Server, "recipe"
	}
	return "", ""
}

// timeKnown reports whether the server has told the time. NTP is not asked: its
// answers are not signed, and whoever forges one could have an old certificate
// believed (S16).
func (m *Machine) timeKnown() bool {
	_, ok := m.signedTime()
	return ok
}

// takeTime takes what the attestation server says the time is (S16). The attester
// has compared it with the floor.
func (m *Machine) takeTime(t time.Time) error {
	if !m.recordTime(t, time.Now()) {
		return nil
	}
	if err := clock.Set(t); err != nil {
		return err
	}
	m.log.Printf("the server's time is %s", t.UTC().Format(time.RFC3339))
	m.update(func(s *listener.Status) { s.Clock.Source = "server" })
	return nil
}

// recordTime keeps the server's time, which answers of NTP are compared with, and
// reports whether the clock is to be set by it: when nobody else has set it, or
// when it is far off.
func (m *Machine) recordTime(t, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	set := m.signed.IsZero() && m.status.Clock.Source != "ntp"
	m.signed, m.signedAt = t, uptime()
	return set || t.Sub(now).Abs() > clock.Far
}

// firmware names vendor, model and firmware of the machine as its tables do.
func firmware(dir string) string {
	var parts []string
	for _, name := range []string{"sys_vendor", "product_name", "bios_vendor", "bios_version", "bios_date"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		text := strings.TrimSpace(string(b))
		if text = text[:min(len(text), 64)]; err == nil && text != "" {
			parts = append(parts, printable(strings.ToValidUTF8(text, "?")))
		}
	}
	return strings.Join(parts, ", ")
}
