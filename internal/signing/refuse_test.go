package signing_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
)

// clone makes a response of its own that a test may damage.
func clone(t *testing.T, r *signing.Response) *signing.Response {
	t.Helper()
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	out, err := signing.ParseResponse(data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unchanged runs something that must fail and leave a set as it was.
func unchanged(t *testing.T, name string, set *release.Set, is error, want string, do func() error) {
	t.Helper()
	before := files(t, set.Dir)
	if err := do(); err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q", name, err, want)
	}
	if !maps.Equal(before, files(t, set.Dir)) {
		t.Errorf("%s: the set has changed", name)
	}
	neighbours(t, set)
}

// TestAttachBootRefuses: boot signatures that are not what the set wants.
func TestAttachBootRefuses(t *testing.T) {
	set, s := unsigned(t), open(t, keySet)
	good := answer(t, authority(t, keySet), request(t, set, false))
	if len(good.Boot) != 2 {
		t.Fatalf("%d boot files", len(good.Boot))
	}
	for name, c := range map[string]struct {
		change func(*signing.Response)
		is     error
		want   string
	}{
		"another name":  {func(r *signing.Response) { r.Set.Name = "other" }, signing.ErrOtherSet, "other 1.0.0"},
		"another build": {func(r *signing.Response) { r.Set.Build = strings.Repeat("0", 64) }, signing.ErrOtherSet, "build 000000000000"},
		"another image": {func(r *signing.Response) { r.Boot[0].Authenticode = strings.Repeat("0", 64) }, signing.ErrOtherSet, "tiny-1.0.0.efi"},
		"swapped": {func(r *signing.Response) {
			r.Boot[0].Signature, r.Boot[1].Signature = r.Boot[1].Signature, r.Boot[0].Signature
		}, pkcs7.ErrSignature, "tiny-1.0.0.efi"},
		"one bit":             {func(r *signing.Response) { r.Boot[1].Signature[9] ^= 1 }, pkcs7.ErrSignature, "EFI/tool/tool.efi"},
		"another certificate": {func(r *signing.Response) { r.Boot[0].Certificate = s.Certificate(keys.KEK).Raw }, pkcs7.ErrSignature, "key exchange key"},
		"EC certificate":      {func(r *signing.Response) { r.Boot[0].Certificate = s.Certificate(keys.Fleet).Raw }, pkcs7.ErrKeyType, "RSA keys of 2048 bits or more only: this is ECDSA P-256"},
		"no certificate":      {func(r *signing.Response) { r.Boot[0].Certificate = nil }, nil, "read certificate"},
		"one is missing":      {func(r *signing.Response) { r.Boot = r.Boot[:1] }, signing.ErrMissing, "EFI/tool/tool.efi"},
		"one too many":        {func(r *signing.Response) { r.Boot = append(r.Boot, r.Boot[0]); r.Boot[2].File = "x.efi" }, signing.ErrNotWanted, "x.efi"},
		"twice":               {func(r *signing.Response) { r.Boot = append(r.Boot, r.Boot[0]) }, nil, "two signatures of tiny-1.0.0.efi"},
		"nothing":             {func(r *signing.Response) { r.Boot = nil }, nil, "no signature"},
	} {
		r := clone(t, good)
		c.change(r)
		unchanged(t, name, set, c.is, c.want, func() error { return signing.Attach(set, []*signing.Response{r}, now) })
	}
	for name, at := range map[string]time.Time{"expired on 2051-03-14": now.AddDate(26, 0, 0), "valid from 2026-03-14 on": now.AddDate(0, 0, -2)} {
		unchanged(t, name, set, signing.ErrDates, name, func() error { return signing.Attach(set, []*signing.Response{good}, at) })
	}
	set = attach(t, set, good)
	unchanged(t, "attached already", set, signing.ErrNotWanted, ".efi", func() error { return signing.Attach(set, []*signing.Response{good}, now) })
}

// TestAttachManifestRefuses: the same for the second round.
func TestAttachManifestRefuses(t *testing.T) {
	set, s := inline(t), open(t, keySet)
	if err := os.Remove(filepath.Join(set.Dir, release.EnvelopeName)); err != nil {
		t.Fatal(err)
	}
	good := answer(t, authority(t, keySet), request(t, set, false))
	fleet, err := x509.MarshalPKIXPublicKey(s.Public(keys.Fleet))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*signing.Response)
		is     error
		want   string
	}{
		"another manifest": {func(r *signing.Response) { r.Manifest.SHA256 = strings.Repeat("0", 64) }, signing.ErrOtherSet, "changed since"},
		"one bit":          {func(r *signing.Response) { r.Manifest.Signature[9] ^= 1 }, dsse.ErrUntrusted, ""},
		"another key":      {func(r *signing.Response) { r.Manifest.PublicKey = fleet }, dsse.ErrUntrusted, ""},
		"no key":           {func(r *signing.Response) { r.Manifest.PublicKey = nil }, nil, "read public key"},
	} {
		r := clone(t, good)
		c.change(r)
		unchanged(t, name, set, c.is, c.want, func() error { return signing.Attach(set, []*signing.Response{r}, now) })
	}
	both := clone(t, good)
	first := unsigned(t)
	boot := answer(t, authority(t, keySet), request(t, first, false))
	unchanged(t, "first round for a signed set", set, signing.ErrNotWanted, ".efi", func() error {
		return signing.Attach(set, []*signing.Response{both, boot}, now)
	})
	envelope := []byte(`{"payload":"e30=","payloadType":"text/plain","signatures":[{"sig":"AA=="}]}` + "\n")
	if err := os.WriteFile(filepath.Join(set.Dir, release.EnvelopeName), envelope, 0o644); err != nil {
		t.Fatal(err)
	}
	unchanged(t, "unknown envelope type", set, nil, `payload type "text/plain"`, func() error {
		return signing.Attach(set, []*signing.Response{good}, now)
	})
}

// forge replaces the UKI of a set and says in the manifest that this is right.
func forge(t *testing.T, change func([]byte) []byte) *release.Set {
	t.Helper()
	set := unsigned(t)
	uki, err := os.ReadFile(set.UKI())
	if err != nil {
		t.Fatal(err)
	}
	uki = change(uki)
	sum := sha256.Sum256(uki)
	for i := range set.Manifest.Files {
		if f := &set.Manifest.Files[i]; f.Name == filepath.Base(set.UKI()) {
			f.Size, f.SHA256 = int64(len(uki)), hex.EncodeToString(sum[:])
		}
	}
	manifest, err := set.Manifest.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{set.UKI(): uki, filepath.Join(set.Dir, release.ManifestName): manifest} {
		if err := errors.Join(os.Remove(path), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return set
}

// header is where the header of a section is (PE Format, "Section Table").
func header(t *testing.T, uki []byte, name string) []byte {
	t.Helper()
	at := bytes.Index(uki, append([]byte(name), make([]byte, 8-len(name))...))
	if at < 0 {
		t.Fatalf("no section %s", name)
	}
	return uki[at:]
}

// TestBadImages: a UKI that must not be signed gets no request and no signature.
func TestBadImages(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"truncated":                  {func(b []byte) []byte { return b[:len(b)/2] }, "tiny-1.0.0.efi: "},
		"two sections of one name":   {func(b []byte) []byte { copy(header(t, b, ".cmdline"), ".osrel\x00\x00"); return b }, `".osrel"`},
		"VirtualSize above raw size": {func(b []byte) []byte { binary.LittleEndian.PutUint32(header(t, b, ".cmdline")[8:], 0x900); return b }, "VirtualSize"},
		"not a PE file":              {func([]byte) []byte { return []byte("MZ") }, "tiny-1.0.0.efi: "},
	} {
		set := forge(t, c.change)
		unchanged(t, name+", request", set, nil, c.want, func() error { _, err := signing.NewRequest(set, false); return err })
		good := unsigned(t)
		r := answer(t, authority(t, keySet), request(t, good, false))
		unchanged(t, name+", attach", set, nil, c.want, func() error { return signing.Attach(set, []*signing.Response{r}, now) })
	}
	set := unsigned(t)
	copied := filepath.Join(set.Dir, "x")
	uki, err := os.ReadFile(set.UKI())
	if err == nil {
		uki[len(uki)-1] ^= 1
		err = errors.Join(os.WriteFile(copied, uki, 0o644), os.Rename(copied, set.UKI()))
	}
	if err != nil {
		t.Fatal(err)
	}
	unchanged(t, "changed since it was built", set, imageset.ErrChanged, "tiny-1.0.0.efi", func() error { _, err := signing.NewRequest(set, false); return err })
}

// TestParseRefuses: documents that are not what they should be. Each case
// replaces one text of a good document.
func TestParseRefuses(t *testing.T) {
	boot, err := request(t, unsigned(t), false).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	signed := request(t, inline(t), true)
	manifest, err := signed.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	message := base64.StdEncoding.EncodeToString(signed.Manifest.Message)
	other := base64.StdEncoding.EncodeToString([]byte("DSSEv1 1 a 2 {}"))
	otherSum := sha256.Sum256([]byte("DSSEv1 1 a 2 {}"))
	_, payload, _ := bytes.Cut(signed.Manifest.Message, []byte(" {"))
	twice := dsse.PAE(dsse.TypeManifest, append([]byte(`{"Version": "6.6.6",`), payload...))
	twiceSum := sha256.Sum256(twice)
	for _, c := range []struct {
		name, doc string
		replace   []string
		want      string
	}{
		{"unknown format", string(boot), []string{"request.v1+", "request.v2+"}, "request.v2+json\", want application/vnd.ingot-os.signing-request.v1+json"},
		{"response", string(boot), []string{"signing-request", "signing-response"}, "signing-response"},
		{"field", string(boot), []string{`"set"`, `"sets"`}, `unknown field "sets"`},
		{"cut", string(boot[:len(boot)/2]), nil, "unexpected end"},
		{"two", string(boot) + "{}", nil, "after top-level value"},
		{"digest", string(boot), []string{`"authenticode": "`, `"authenticode": "x`}, "boot[0]: "},
		{"attributes", string(boot), []string{`"sha256": "`, `"sha256": "00`}, "boot[0].sha256: "},
		{"nothing", `{"type": "` + signing.RequestType + `"}`, nil, "want boot files and policies, or a manifest"},
		{"envelope type", string(manifest), []string{dsse.TypeManifest, "text/plain"}, `payloadType: "text/plain"`},
		{"digest of the message", string(manifest), []string{`"sha256": "`, `"sha256": "00`}, "manifest.sha256"},
		{"another message", string(manifest), []string{message, other}, "is not that of the message"},
		{"no manifest", string(manifest), []string{message, other, signed.Manifest.SHA256, hex.EncodeToString(otherSum[:])}, "pre-authentication"},
		{"message of another set", string(manifest), []string{`"version": "1.0.0"`, `"version": "1.0.1"`}, "the request of tiny 1.0.1"},
		{"a name twice", string(manifest), []string{message, base64.StdEncoding.EncodeToString(twice), signed.Manifest.SHA256, hex.EncodeToString(twiceSum[:])}, "not in the encoding that ingot writes"},
		{"set on two lines", string(manifest), []string{`"version": "1.0.0"`, `"version": "1.0.0\n\u001b[2K"`}, "cannot be printed"},
		{"file", string(boot), []string{`"file": "`, `"file": "\u202e`}, "boot[0]: file: "},
	} {
		if _, err := signing.ParseRequest([]byte(strings.NewReplacer(c.replace...).Replace(c.doc))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	resp, err := answer(t, authority(t, keySet), signed).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for was, is := range map[string]string{"response.v1+": "response.v2+", dsse.TypeManifest: "text/plain", `"signature"`: `"sig"`} {
		if _, err := signing.ParseResponse(bytes.Replace(resp, []byte(was), []byte(is), 1)); err == nil {
			t.Errorf("response with %s: no error", is)
		}
	}
}

// TestRawRefuses: signatures of other programs that fit nothing.
func TestRawRefuses(t *testing.T) {
	s := open(t, keySet)
	r := request(t, unsigned(t), true)
	good := answer(t, authority(t, keySet), r)
	db := signing.Certified{Key: s.Public(keys.DB), Certificate: s.Certificate(keys.DB)}
	for name, c := range map[string]struct {
		raw     map[string][]byte
		trusted []signing.Certified
		want    string
	}{
		"unknown file":   {map[string][]byte{"x.efi": good.Boot[0].Signature}, []signing.Certified{db}, "the set wants tiny-1.0.0.efi EFI/tool/tool.efi"},
		"of another":     {map[string][]byte{r.Boot[0].File: good.Boot[1].Signature}, []signing.Certified{db}, "does not verify"},
		"no certificate": {map[string][]byte{r.Boot[0].File: good.Boot[0].Signature}, []signing.Certified{{Key: db.Key}}, "no certificate was given"},
		"manifest":       {map[string][]byte{release.ManifestName: good.Boot[0].Signature}, []signing.Certified{db}, "no file that wants one"},
	} {
		if _, err := signing.Raw(r, c.raw, c.trusted); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	m := request(t, inline(t), true)
	if _, err := signing.Raw(m, map[string][]byte{release.ManifestName: good.Boot[0].Signature}, []signing.Certified{db}); !errors.Is(err, dsse.ErrUntrusted) {
		t.Errorf("manifest by no key: %v", err)
	}
}

// TestWrongKeys: keys that cannot sign what is asked for.
func TestWrongKeys(t *testing.T) {
	s, r := open(t, keySet), request(t, unsigned(t), false)
	for p, want := range map[keys.Purpose]string{keys.Fleet: "this is ECDSA P-256", keys.Image: "need a certificate"} {
		a, err := signing.Single(ctx, "file:"+filepath.Join(keySet, string(p)+".key"), s.Public(p), s.Certificate(p), dev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Answer(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", p, err, want)
		}
	}
	a, err := signing.Single(ctx, "file:"+filepath.Join(keySet, "kek.key"), s.Public(keys.DB), s.Certificate(keys.DB), dev)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Answer(r); err == nil || !strings.Contains(err.Error(), "not the private key of the given public key") {
		t.Errorf("another private key: %v", err)
	}
	dir := publicHalf(t, keySet, nil)
	swapDB(t, dir)
	if _, err := signing.New(ctx, open(t, dir), dev); !errors.Is(err, pkcs7.ErrKeyType) {
		t.Errorf("EC key for db: %v", err)
	}
}

// swapDB makes the fleet key the db key of an index.
func swapDB(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "keys.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var index keys.Index
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	for i := range index.Keys {
		switch index.Keys[i].Purpose {
		case keys.DB:
			index.Keys[i].Purpose = keys.Fleet
		case keys.Fleet:
			index.Keys[i].Purpose = keys.DB
		}
	}
	if b, err = json.Marshal(index); err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzParse: hostile documents never panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type": "` + signing.RequestType + `", "set": {}, "boot": [{"file": "a.efi", "authenticode": "00", "sha256": "00"}]}`))
	f.Add([]byte(`{"type": "` + signing.RequestType + `", "manifest": {"payloadType": "` + dsse.TypeManifest + `", "message": "RFNTRXYxIDEgYSAyIHt9"}}`))
	f.Add([]byte(`{"type": "` + signing.ResponseType + `", "boot": [{"signature": "AA=="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := signing.ParseRequest(data); err == nil {
			r.Lines()
		}
		signing.ParseResponse(data)
	})
}
