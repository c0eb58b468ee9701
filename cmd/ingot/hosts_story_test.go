package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/simhost"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
)

// story is a running server with an attestation API, a wire, and a machine on it: its
// firmware is a DHCP and HTTP client, its TPM and ingot-init are imitated.
type story struct {
	t              *testing.T
	exe, dir       string
	server, client *netlab.Space
	host           *simhost.Host
	channel        tls.Certificate
	key            []byte // id of the channel's key
	boots          int
}

const storyConfig = `releases: [releases]
insecureReleases: true
keys: keys
state: state
rules: rules.yaml
interfaces: [up0]
metrics: {off: true}
attest: {policy: policy.json}
dhcp:
  mode: full
  subnets:
    - subnet: 10.88.0.0/24
      pools: [10.88.0.100-10.88.0.150]
`

const storyRules = `format: 1
rules:
  - {name: by serial, serial: [CZ77], boot: hello@1.0.0}
default: hello
`

func newStory(t *testing.T, f *fixture, set string) *story {
	t.Helper()
	s := &story{t: t, exe: f.exe, dir: tempDir(t), server: netlab.New(t, "server"), client: netlab.New(t, "machine")}
	netlab.Cable(s.server, "up0", s.client, "down0")
	s.server.Address("up0", "10.88.0.1/24")
	s.client.Address("down0", "10.88.0.2/24")
	boot := networkBoot(t, set)
	policy, err := json.Marshal(attest.Policy{SecureBoot: true, Keys: []attest.Keys{boot.Keys()}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"serve.yaml": storyConfig, "rules.yaml": storyRules, "policy.json": string(policy)} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(s.dir, "releases", filepath.Base(set)), os.DirFS(set)); err != nil {
		t.Fatal(err)
	}
	s.ingot("keys", "init", "keys", "--test")
	if s.host, err = simhost.New("web-3", boot); err != nil {
		t.Fatal(err)
	}
	cmd := s.command("serve", "-v")
	s.server.StartCommand(cmd).Await("serving: parts", 30*time.Second)
	return s
}

// networkBoot is what firmware logs that boots the set over the network.
func networkBoot(t *testing.T, set string) *simhost.Boot {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(set, "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ref attest.Reference
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	boot, err := simhost.ReadBoot("../../attest/testdata/boot-257-secureboot.json")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(ref.Paths, func(p attest.Path) bool { return p.Boot == "pxe" && p.SecureBoot })
	if i < 0 {
		t.Fatal("the reference knows no boot over the network")
	}
	if boot, err = boot.Of(ref.Paths[i]); err != nil {
		t.Fatal(err)
	}
	return boot
}

func (s *story) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.exe, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "INGOT_SERVER=https://10.88.0.1:9444", "INGOT_KEYS=keys"}
	return cmd
}

// ingot runs the program beside the server, and gives what it prints as result.
func (s *story) ingot(args ...string) string {
	s.t.Helper()
	cmd := s.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	<-s.server.StartCommand(cmd).Done()
	if cmd.ProcessState.ExitCode() != 0 {
		s.t.Fatalf("ingot %q: %s\n%s%s", args, cmd.ProcessState, out.String(), errs.String())
	}
	return out.String()
}

func (s *story) detail(args ...string) (d verifier.BootDetail) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.ingot(append([]string{"hosts"}, append(args, "--json")...)...)), &d); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// stages are those of the newest boot.
func (s *story) stages() (stages, outcome string, died bool) {
	s.t.Helper()
	d := s.detail("52:54:00:00:01:07", "--timeline")
	if len(d.Machines) != 1 || len(d.Machines[0].Boots) == 0 {
		return "", "", false
	}
	list := d.Machines[0].Boots
	b := list[len(list)-1]
	for i, x := range b.Steps {
		if i > 0 && x.Time.Before(b.Steps[i-1].Time) {
			s.t.Errorf("%s is before the step before it", x.Stage)
		}
		stages += " " + string(x.Stage)
	}
	return strings.TrimSpace(stages), b.Outcome, b.Died
}

// until waits for the newest boot to have come through stages.
func (s *story) until(stages, outcome string, died bool) {
	s.t.Helper()
	var got, how string
	var dead bool
	for range 100 {
		if got, how, dead = s.stages(); got == stages && how == outcome && dead == died {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("stages %q: %s, died %v\nwant   %q: %s, died %v\n%s", got, how, dead, stages, outcome, died, s.ingot("hosts", "52:54:00:00:01:07", "--timeline"))
}

// firmware asks, looks how large the file is, and loads it, or n bytes of it.
func (s *story) firmware(n int64) {
	s.t.Helper()
	s.boots++
	o, err := dhcpv4.FromBytes(exchange(s.t, s.client, httpQuestion(s.t, 7), 67))
	if err != nil {
		s.t.Fatal(err)
	}
	url := string(o.Options.Get(dhcpv4.OptionBootfileName))
	client := &http.Client{Transport: &http.Transport{DialContext: s.client.Dial, DisableKeepAlives: true}}
	if r, err := client.Head(url); err != nil || r.StatusCode != http.StatusOK {
		s.t.Fatalf("HEAD %s: %v, %v", url, r, err)
	}
	r, err := client.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	if n == 0 {
		n = r.ContentLength
	}
	if _, err := io.CopyN(io.Discard, r.Body, n); err != nil {
		s.t.Fatal(err)
	}
}

// start is ingot-init: it asks for an address, and makes the key of its channel.
func (s *story) start() {
	s.t.Helper()
	m := httpQuestion(s.t, 7)
	m.UpdateOption(dhcpv4.OptClassIdentifier("ingot"))
	exchange(s.t, s.client, m, 67)
	s.host.Clock.ResetCount++
	s.channel, s.key = newChannel(s.t)
}

func newChannel(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, attestapi.KeyID(spki)
}

// post sends a message, and gives the id of the server's key.
func (s *story) post(path string, message, answer any) []byte {
	s.t.Helper()
	body, err := json.Marshal(message)
	if err != nil {
		s.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: s.client.Dial, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{s.channel}, MinVersion: tls.VersionTLS13}}}
	r, err := client.Post("https://10.88.0.1:9444"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s: %s, %v", path, r.Status, b, err)
	}
	if err := json.Unmarshal(b, answer); err != nil {
		s.t.Fatal(err)
	}
	return attestapi.KeyID(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
}

func (s *story) enrol() {
	s.t.Helper()
	var offer attestapi.EnrolOffer
	s.post(attestapi.EnrolPath, s.host.Request(), &offer)
	secret, err := s.host.Activate(offer.Credential.Blob, offer.Credential.Secret)
	if err != nil {
		s.t.Fatal(err)
	}
	s.post(attestapi.ActivatePath, attestapi.ActivateRequest{Name: s.host.Name, Secret: secret}, new(attestapi.Enrolled))
	s.ingot("hosts", s.host.Name, "--approve")
}

// attest proves the boot, and gets the certificate that reports need.
func (s *story) attest() {
	s.t.Helper()
	var c attestapi.Challenge
	id := s.post(attestapi.ChallengePath, attestapi.ChallengeRequest{Name: s.host.Name}, &c)
	e, err := s.host.Evidence(attest.Challenge{Nonce: c.Nonce, ServerID: id, ChannelKey: s.key}, c.Bank, c.PCRs)
	if err != nil {
		s.t.Fatal(err)
	}
	var a attestapi.Answer
	s.post(attestapi.EvidencePath, attestapi.Evidence{Name: s.host.Name, Evidence: *e}, &a)
	if !a.Trusted {
		s.t.Fatalf("the verdict is %+v", a.Findings)
	}
	s.channel.Certificate = a.Certificate
}

func (s *story) report(uptime, healthy float64) {
	s.t.Helper()
	s.post(updateapi.BootPath, updateapi.BootReport{Boot: fmt.Sprintf("%032d", s.boots), Name: "hello", Version: "1.0.0", Path: "http", MACs: []string{"52:54:00:00:01:07"},
		UUID: "4c4c4544-0034-5310-8052-b4c04f4e4d32", Serial: "CZ77", Asset: "rack7-1", Uptime: uptime, Healthy: healthy}, new(updateapi.BootOrder))
}

// TestHostsStory: one machine from its first question to a good release, by the
// whole program: every stage with its time, what its report lets rules find, a ticket
// that only its attestation spends, and a boot that dies.
func TestHostsStory(t *testing.T) {
	f := warm(t)
	_, set := f.built(t, "plain")
	s := newStory(t, f, set)
	const mac, loaded = "52:54:00:00:01:07", "asked offered probed first last"
	s.firmware(0)
	s.until(loaded, "loaded hello-1.0.0.efi", false)
	if d := s.detail(mac, "--explain"); d.Machines[0].Why != "default" || d.Host != "" {
		t.Errorf("before it attests: %+v", d)
	}
	s.start()
	s.enrol()
	s.until(loaded+" init", "ingot-init runs", false)
	s.attest()
	s.until(loaded+" init attested", "attested", false)
	s.report(5, 0)
	s.report(90, 80)
	s.report(95, 85)
	s.until(loaded+" init attested healthy released", "healthy, its release is good", false)
	d := s.detail("web-3", "--explain")
	m := d.Machines[0]
	if m.Why != `rule 1 "by serial"` || m.Serial != "CZ77" || m.Asset != "rack7-1" || m.UUID == "" || len(m.EK) != 64 || m.Reported.IsZero() || m.Host != "web-3" {
		t.Errorf("after it has attested: %+v", m)
	}

	// A boot by order: neither a question nor a download that breaks spends it.
	s.ingot("hosts", "web-3", "--boot-once", "hello@1.0.0", "--ttl", "2h")
	s.firmware(100_000)
	s.until("asked offered probed first broken", "download of hello-1.0.0.efi broken at "+s.percent()+" %", true)
	if d := s.detail("web-3", "--explain"); d.Ticket == nil || d.Machines[0].Why != "ticket release" {
		t.Fatalf("after a broken download the ticket is %+v", d.Ticket)
	}
	if out := s.ingot("hosts"); !strings.Contains(out, "DIED: download of hello-1.0.0.efi broken at ") {
		t.Errorf("the list does not say where it died:\n%s", out)
	}
	s.firmware(0)
	s.start()
	s.attest()
	s.report(5, 0)
	s.until(loaded+" init attested", "attested", false)
	if d := s.detail("web-3", "--explain"); d.Ticket != nil || d.Machines[0].Why != `rule 1 "by serial"` {
		t.Errorf("after it attested the ticket is %+v, and it boots because of %s", d.Ticket, d.Machines[0].Why)
	}
	t.Logf("\n%s\n%s\n%s", s.ingot("hosts"), s.ingot("hosts", "web-3", "--explain"), s.ingot("hosts", "web-3", "--timeline"))
}

// percent is how far the newest boot's download came.
func (s *story) percent() string {
	s.t.Helper()
	for range 100 {
		_, outcome, _ := s.stages()
		if _, rest, ok := strings.Cut(outcome, "broken at "); ok {
			return strings.TrimSuffix(rest, " %")
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatal("the download did not break")
	return ""
}
