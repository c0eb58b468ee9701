package signing_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
)

// request asks for what a set lacks, through the bytes that travel.
func request(t *testing.T, set *release.Set, message bool) *signing.Request {
	t.Helper()
	r, err := signing.NewRequest(set, message)
	if err != nil {
		t.Fatal(err)
	}
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if r, err = signing.ParseRequest(data); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return r
}

// answer signs a request, through the bytes that travel.
func answer(t *testing.T, a *signing.Authority, r *signing.Request) *signing.Response {
	t.Helper()
	resp, err := a.Answer(r)
	if err != nil {
		t.Fatal(err)
	}
	data, err := resp.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if resp, err = signing.ParseResponse(data); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return resp
}

func attach(t *testing.T, set *release.Set, r ...*signing.Response) *release.Set {
	t.Helper()
	if err := signing.Attach(set, r, now); err != nil {
		t.Fatal(err)
	}
	neighbours(t, set)
	return reopen(t, set)
}

// split signs a set in two rounds.
func split(t *testing.T, set *release.Set, a *signing.Authority) *release.Set {
	t.Helper()
	r := request(t, set, false)
	if len(r.Boot) == 0 || r.Manifest != nil {
		t.Fatalf("first round asks for %+v", r)
	}
	set = attach(t, set, answer(t, a, r))
	if r = request(t, set, false); len(r.Boot) > 0 || r.Manifest == nil {
		t.Fatalf("second round asks for %+v", r)
	}
	return attach(t, set, answer(t, a, r))
}

// TestSplit: two rounds with a key on another machine give what one build
// with the same key gives, byte for byte, and the builder has no key at all.
func TestSplit(t *testing.T) {
	apart := split(t, unsigned(t), authority(t, keySet))
	same(t, "inline and split", inline(t).Dir, apart.Dir)
	s := open(t, keySet)
	verifies(t, apart, s.Certificate(keys.DB), s.Public(keys.Image))
}

// TestSplitWithPayload does it with a root payload and further outputs.
func TestSplitWithPayload(t *testing.T) {
	app := appliance(t)
	app.File("rootfs/etc/motd", "hello\n", 0o644)
	app.Recipe(withTool + "root: {directory: ./rootfs}\noutputs: [qcow2, vmdk, zst]\n")
	inline := makeSet(t, app, t.TempDir(), authority(t, keySet))
	apart := split(t, makeSet(t, app, t.TempDir(), nil), authority(t, keySet))
	same(t, "inline and split", inline.Dir, apart.Dir)
	if got := files(t, apart.Dir); got["tiny-1.0.0.qcow2"] == "" || got["tiny-1.0.0.vmdk"] == "" || got["tiny-1.0.0.img.zst"] == "" {
		t.Error("the further outputs are missing")
	}
}

// TestSplitWithISO does it with an output that holds the boot file itself.
func TestSplitWithISO(t *testing.T) {
	app := buildtest.New(t, "outputs: [iso]\n")
	inline := makeSet(t, app, t.TempDir(), authority(t, keySet))
	apart := split(t, makeSet(t, app, t.TempDir(), nil), authority(t, keySet))
	same(t, "inline and split", inline.Dir, apart.Dir)
	if !strings.Contains(files(t, apart.Dir)["tiny-1.0.0.iso"], files(t, apart.Dir)["tiny-1.0.0.efi"]) {
		t.Error("the ISO does not hold the signed boot file")
	}
}

// TestDigestsOnly: a request has no byte of an image, and no manifest unless
// that is asked for.
func TestDigestsOnly(t *testing.T) {
	for name, set := range map[string]*release.Set{"boot files": unsigned(t), "manifest": inline(t)} {
		data, err := request(t, set, false).Marshal()
		if err != nil || len(data) > 2000 {
			t.Errorf("%s: a request of %d bytes, %v", name, len(data), err)
		}
	}
	set := inline(t)
	r := request(t, set, true)
	if manifest := files(t, set.Dir)[release.ManifestName]; !strings.HasSuffix(string(r.Manifest.Message), manifest) {
		t.Error("the manifest is not in the message")
	}
	if rows := r.Lines(); len(rows) != 2 {
		t.Errorf("a person sees %q", rows)
	}
}

// TestEd25519 signs the manifest itself.
func TestEd25519(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	o := keys.Options{Name: "acme", Test: true, Now: now, Rand: rand.Reader, Algorithms: map[keys.Purpose]keys.Algorithm{keys.Image: keys.Ed25519}}
	if _, err := keys.Init(ctx, dir, o); err != nil {
		t.Fatal(err)
	}
	a := authority(t, dir)
	set := attachBoot(t, unsigned(t), a)
	if _, err := a.Answer(request(t, set, false)); err == nil || !strings.Contains(err.Error(), signing.ErrMessage.Error()) {
		t.Errorf("digest only: %v", err)
	}
	set = attach(t, set, answer(t, a, request(t, set, true)))
	same(t, "inline and split", makeSet(t, appliance(t), t.TempDir(), a).Dir, set.Dir)
}

func attachBoot(t *testing.T, set *release.Set, a *signing.Authority) *release.Set {
	t.Helper()
	return attach(t, set, answer(t, a, request(t, set, false)))
}

// TestTwoSigners: a second signature of the manifest joins the first; the same
// one again changes nothing.
func TestTwoSigners(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	other, err := keys.Init(ctx, dir, keys.Options{Name: "other", Test: true, Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	set := inline(t)
	before := files(t, set.Dir)
	attach(t, set, answer(t, authority(t, keySet), request(t, set, false)))
	if after := files(t, set.Dir); after[release.EnvelopeName] != before[release.EnvelopeName] {
		t.Error("signed again by the same key: another envelope")
	}
	attach(t, set, answer(t, authority(t, dir), request(t, set, false)))
	first := open(t, keySet)
	verifies(t, set, first.Certificate(keys.DB), first.Public(keys.Image))
	verifies(t, set, first.Certificate(keys.DB), other.Public(keys.Image))
}

// TestSingle signs with one key and its certificate at a time.
func TestSingle(t *testing.T) {
	s := open(t, keySet)
	single := func(p keys.Purpose) *signing.Authority {
		a, err := signing.Single(ctx, "file:"+filepath.Join(keySet, string(p)+".key"), s.Public(p), s.Certificate(p), dev)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	set := unsigned(t)
	set = attach(t, set, answer(t, single(keys.DB), request(t, set, false)))
	set = attach(t, set, answer(t, single(keys.Image), request(t, set, false)))
	same(t, "inline and split", inline(t).Dir, set.Dir)
}

// TestNoBlindRSA: a key that can sign boot files signs no digest of unknown
// origin, which could be that of a boot file.
func TestNoBlindRSA(t *testing.T) {
	s, set := open(t, keySet), inline(t)
	for name, cert := range map[string]*x509.Certificate{"with certificate": s.Certificate(keys.DB), "bare": nil} {
		a, err := signing.Single(ctx, "file:"+filepath.Join(keySet, "db.key"), s.Public(keys.DB), cert, dev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Answer(request(t, set, false)); !errors.Is(err, signing.ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
		attach(t, set, answer(t, a, request(t, set, true)))
	}
	verifies(t, set, s.Certificate(keys.DB), s.Public(keys.DB))
}

// TestOpenSSL makes the raw signatures by hand, as docs/signing.md says.
func TestOpenSSL(t *testing.T) {
	openssl := oracle.Need(t, "openssl", "openssl")
	s, dir := open(t, keySet), t.TempDir()
	set := unsigned(t)
	digest := func(sum string) string {
		path := filepath.Join(dir, "digest")
		if err := os.WriteFile(path, unhex(t, sum), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sign := func(key, sum string) []byte {
		out := filepath.Join(dir, "signature")
		oracle.Run(t, openssl, "pkeyutl", "-sign", "-inkey", filepath.Join(keySet, key), "-pkeyopt", "digest:sha256", "-in", digest(sum), "-out", out)
		sig, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	trusted := []signing.Certified{{Key: s.Public(keys.Image)}, {Key: s.Public(keys.DB), Certificate: s.Certificate(keys.DB)}}
	r, raw := request(t, set, true), map[string][]byte{}
	for _, b := range r.Boot {
		raw[b.File] = sign("db.key", b.SHA256)
	}
	resp, err := signing.Raw(r, raw, trusted)
	if err != nil {
		t.Fatal(err)
	}
	set = attach(t, set, resp)
	r = request(t, set, true)
	if resp, err = signing.Raw(r, map[string][]byte{release.ManifestName: sign("image.key", r.Manifest.SHA256)}, trusted); err != nil {
		t.Fatal(err)
	}
	set = attach(t, set, resp)
	same(t, "inline and openssl", inline(t).Dir, set.Dir, release.EnvelopeName) // openssl's ECDSA is random
	verifies(t, set, s.Certificate(keys.DB), s.Public(keys.Image))
}

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// TestSoftHSM signs through PKCS #11 with the same keys on a token.
func TestSoftHSM(t *testing.T) {
	oracle.Need(t, "softhsm2", softHSM)
	oracle.Need(t, "opensc", "pkcs11-tool")
	util, openssl, dir := oracle.Need(t, "softhsm2", "softhsm2-util"), oracle.Need(t, "openssl", "openssl"), t.TempDir()
	conf, pin := filepath.Join(dir, "conf"), filepath.Join(dir, "pin")
	for path, text := range map[string]string{conf: "directories.tokendir = " + dir + "\n", pin: "1234\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	oracle.Run(t, util, "--init-token", "--free", "--label", "fleet", "--pin", "1234", "--so-pin", "5678")
	uris := map[keys.Purpose]string{}
	for id, p := range map[string]keys.Purpose{"01": keys.DB, "02": keys.Image} {
		private, public := filepath.Join(keySet, string(p)+".key"), filepath.Join(dir, "pub")
		oracle.Run(t, openssl, "pkey", "-in", private, "-pubout", "-outform", "DER", "-out", public)
		oracle.Run(t, util, "--import", private, "--token", "fleet", "--label", string(p), "--id", id, "--pin", "1234")
		uris[p] = "pkcs11:token=fleet;id=%" + id + "?module-path=" + softHSM + "&pin-source=file:" + pin
	}
	s, onToken := open(t, keySet), publicHalf(t, keySet, uris)
	for name, set := range map[string]*release.Set{
		"inline with a token": makeSet(t, appliance(t), t.TempDir(), authority(t, onToken)),
		"split with a token":  split(t, unsigned(t), authority(t, onToken)),
	} {
		same(t, name, inline(t).Dir, set.Dir, release.EnvelopeName) // a token's ECDSA is random
		verifies(t, set, s.Certificate(keys.DB), s.Public(keys.Image))
	}
}

// publicHalf copies a key set without its private keys, which are at the URIs
// or nowhere.
func publicHalf(t *testing.T, from string, uris map[keys.Purpose]string) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, from)
	index := s.Index
	for i := range index.Keys {
		k := &index.Keys[i]
		if uri := uris[k.Purpose]; uri != "" {
			k.URI = uri
		}
		b, err := os.ReadFile(filepath.Join(from, k.Public))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, k.Public), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(index)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "keys.json"), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
