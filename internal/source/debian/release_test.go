package debian

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestKeyring compares the embedded keys with the fingerprints in the README.
func TestKeyring(t *testing.T) {
	readme, err := os.ReadFile("keyring/README.md")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := Keyring()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(keys), strings.Count(string(readme), "| `"); got != want {
		t.Errorf("%d keys, the README lists %d", got, want)
	}
	text := strings.ReplaceAll(string(readme), " ", "")
	for _, k := range keys {
		fingerprint := fmt.Sprintf("%X", k.PrimaryKey.Fingerprint)
		if !strings.Contains(text, "`"+fingerprint+"`") {
			t.Errorf("key %s is not in the README", fingerprint)
		}
		if k.PrivateKey != nil {
			t.Errorf("key %s is a private key", fingerprint)
		}
	}
}

func TestParseReleaseFields(t *testing.T) {
	const digest = "7778d3e3f303b7ddb8ce0fe7c8d57473a076c6bf2e8f241f75421d2396352498"
	text := "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nValid-Until: Sat,  5 Dec 2026 01:02:03 UTC\nAcquire-By-Hash: yes\n" +
		"MD5Sum:\n 00000000000000000000000000000000 5 main/binary-amd64/Packages.gz\nSHA256:\n " + digest + "  9678380 main/binary-amd64/Packages.xz\n"
	r, err := parseRelease([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Until, time.Date(2026, 12, 5, 1, 2, 3, 0, time.UTC); !got.Equal(want) {
		t.Errorf("Valid-Until %v, want %v", got, want)
	}
	if len(r.Index) != 1 || r.Index["main/binary-amd64/Packages.xz"] != (Index{digest, 9678380}) {
		t.Errorf("index %v: only the SHA256 section counts", r.Index)
	}
	for _, bad := range []string{
		"Suite: stable\n", // no date
		"Date: yesterday\n",
		"Date: Sat, 12 Sep 2026 07:55:41 CEST\n",
		text + " " + digest + " 5\n",
		text + " " + digest + " -5 x\n",
		text + " 77 5 x\n",
	} {
		if _, err := parseRelease([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestScanPackagesRefusesWhatCannotBeFetched(t *testing.T) {
	const digest = "7778d3e3f303b7ddb8ce0fe7c8d57473a076c6bf2e8f241f75421d2396352498"
	good := "Package: a\nVersion: 1\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 5\nSHA256: " + digest + "\n"
	count := 0
	if err := ScanPackages(strings.NewReader(good+"\n"+good), func(Package) error { count++; return nil }); err != nil || count != 2 {
		t.Fatalf("%d packages, %v", count, err)
	}
	for _, change := range [][2]string{
		{"Package: a", "Priority: a"},
		{"Version: 1", "Version:"},
		{"pool/a.deb", "../a.deb"},
		{"pool/a.deb", "pool/../../a.deb"},
		{"pool/a.deb", "/etc/passwd"},
		{"pool/a.deb", "pool/a.deb?x"},
		{"Size: 5", "Size: x"},
		{"Size: 5", "Size: 0"},
		{digest, digest[:63]},
		{digest, strings.ToUpper(digest)},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		err := ScanPackages(strings.NewReader(bad), func(Package) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%q: %v, want an error with its line", change, err)
		}
	}
	long := "Package: " + strings.Repeat("a", maxLine+1)
	if err := ScanPackages(strings.NewReader(long), func(Package) error { return nil }); err == nil {
		t.Error("accepted a line over the limit")
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte("Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n 7778d3e3f303b7ddb8ce0fe7c8d57473a076c6bf2e8f241f75421d2396352498 9 main/x\n"))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSuite: x\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"))
	keys, err := Keyring()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRelease(b); err == nil && r.Date.IsZero() {
			t.Error("no date")
		}
		if _, err := ParseRelease(b, "trixie", keys, time.Unix(1800000000, 0)); err == nil {
			t.Error("a fuzzer signed for Debian")
		}
	})
}

func FuzzScanPackages(f *testing.F) {
	f.Add([]byte("Package: a\nVersion: 1\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 5\nSHA256: 7778d3e3f303b7ddb8ce0fe7c8d57473a076c6bf2e8f241f75421d2396352498\n\n"))
	f.Add([]byte("Package: linux-image-x\nDepends: linux-image-1-x (= 1), a | b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := ScanPackages(strings.NewReader(string(b)), func(p Package) error {
			p.Image()
			return p.check()
		})
		_ = err // any error will do; a package that fails its own check is reported by it
	})
}

// TestSourcePackage reads the field in its four forms, as the archive has them.
func TestSourcePackage(t *testing.T) {
	const head = "Package: pkg\nVersion: 2-1+b1\nFilename: pool/p.deb\nSize: 1\nSHA256: "
	for _, c := range []struct{ field, want string }{
		{"", "pkg 2-1+b1"},
		{"Source: src\n", "src 2-1+b1"},
		{"Source: src (2-1)\n", "src 2-1"},
		{"Source: linux-signed-amd64 (6.12.117+1)\n", "linux-signed-amd64 6.12.117+1"},
		{"Source: src (2-1) more\n", ""},
	} {
		got := ""
		err := ScanPackages(strings.NewReader(head+strings.Repeat("a", 64)+"\n"+c.field), func(p Package) error {
			got = p.SourcePackage()
			return nil
		})
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q gives %q, %v; want %q", c.field, got, err, c.want)
		}
	}
}
