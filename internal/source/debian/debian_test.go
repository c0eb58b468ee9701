package debian_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/source/debian"
	"github.com/ingot-os/ingot/internal/source/debian/debiantest"
)

// plainSource fetches without a cache and checks nothing, so that what is
// refused here is refused by package debian.
type plainSource struct{}

func (plainSource) Small(_ context.Context, _ string, urls []string, limit int64) ([]byte, error) {
	r, err := plainSource{}.Blob(context.Background(), "", urls, "", 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

func (plainSource) Blob(_ context.Context, _ string, urls []string, _ string, _ int64) (io.ReadCloser, error) {
	for _, u := range urls {
		resp, err := http.Get(u)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK {
			return resp.Body, nil
		}
		resp.Body.Close()
	}
	return nil, errors.New("not found")
}

func client(a *debiantest.Archive) *debian.Archive {
	return &debian.Archive{Main: []string{a.Main}, Security: []string{a.Security}, Keys: a.Keys(), Now: a.Now, Source: plainSource{}}
}

func kernels(a *debiantest.Archive) {
	a.Add(debiantest.Package{Name: "linux-image-cloud-amd64", Version: "6.12.107-1", Depends: "linux-image-6.12.107+deb13-cloud-amd64 (= 6.12.107-1)"})
	a.Add(debiantest.Package{Name: "linux-image-6.12.107+deb13-cloud-amd64", Version: "6.12.107-1", Depends: "kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool"})
	a.Add(debiantest.Package{Name: "linux-image-cloud-amd64", Version: "6.12.117-1", Pocket: "security", Depends: "linux-image-6.12.117+deb13-cloud-amd64 (= 6.12.117-1)"})
	a.Add(debiantest.Package{Name: "linux-image-6.12.117+deb13-cloud-amd64", Version: "6.12.117-1", Pocket: "security"})
	a.Add(debiantest.Package{Name: "firmware-realtek", Version: "1", Arch: "all", Component: "non-free-firmware"})
	a.Add(debiantest.Package{Name: "systemd-boot-efi", Version: "257.13-1~deb13u1", Pocket: "updates"})
	a.Add(debiantest.Package{Name: "systemd-boot-efi", Version: "257.13-1"})
}

func TestFindTakesTheNewestOfAllPocketsAndFollowsMetapackages(t *testing.T) {
	for _, compress := range []string{"xz", "gz", "none"} {
		a := debiantest.New(t)
		a.Compress = compress
		kernels(a)
		a.Publish()
		c := client(a)
		for _, tc := range []struct{ ask, name, version, pocket, via string }{
			{"linux-image-cloud-amd64", "linux-image-6.12.117+deb13-cloud-amd64", "6.12.117-1", "security", "linux-image-cloud-amd64"},
			{"linux-image-6.12.107+deb13-cloud-amd64", "linux-image-6.12.107+deb13-cloud-amd64", "6.12.107-1", "main", ""},
			{"firmware-realtek", "firmware-realtek", "1", "main", ""},
			{"systemd-boot-efi", "systemd-boot-efi", "257.13-1", "main", ""}, // ~deb13u1 sorts before nothing
		} {
			got, err := c.Find(context.Background(), "trixie", "amd64", tc.ask)
			if err != nil {
				t.Fatalf("%s: %v", compress, err)
			}
			want := []string{tc.name, tc.version, tc.pocket, tc.via}
			if d := cmp.Diff(want, []string{got.Name, got.Version, got.Pocket, got.Via}); d != "" {
				t.Errorf("%s: %s: %s", compress, tc.ask, d)
			}
			if !got.Date.Equal(a.Date) {
				t.Errorf("%s: date %v, want %v", tc.ask, got.Date, a.Date)
			}
		}
	}
}

func TestFindSuggestsANameThatLooksAlike(t *testing.T) {
	a := debiantest.New(t)
	kernels(a)
	a.Publish()
	_, err := client(a).Find(context.Background(), "trixie", "amd64", "firmware-realtec")
	var missing *debian.NotFoundError
	if !errors.As(err, &missing) {
		t.Fatalf("got %v, want a NotFoundError", err)
	}
	if got, want := missing.Hint(), "did you mean firmware-realtek?"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
}

func TestMetapackageWithoutItsKernelIsRefused(t *testing.T) {
	a := debiantest.New(t)
	a.Add(debiantest.Package{Name: "linux-image-cloud-amd64", Version: "2", Depends: "linux-image-2-cloud-amd64 (= 2)"})
	a.Add(debiantest.Package{Name: "linux-image-2-cloud-amd64", Version: "1"})
	a.Publish()
	_, err := client(a).Find(context.Background(), "trixie", "amd64", "linux-image-cloud-amd64")
	if err == nil || !strings.Contains(err.Error(), "follow metapackage linux-image-cloud-amd64 2") {
		t.Errorf("got %v", err)
	}
}

// TestRefusals: every way in which an archive can lie ends in an error that
// says why, and none in a package.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name string
		bad  func(t *testing.T, a *debiantest.Archive, c *debian.Archive)
		is   error
		says string
	}{
		{"signed by another key", func(t *testing.T, _ *debiantest.Archive, c *debian.Archive) {
			c.Keys = openpgp.EntityList{debiantest.NewKey(t)}
		}, debian.ErrSignature, "none of the 1 trusted keys"},
		{"signed by another key, Debian's keyring", func(_ *testing.T, _ *debiantest.Archive, c *debian.Archive) {
			c.Keys = nil
		}, debian.ErrSignature, "none of the 6 trusted keys"},
		{"text changed after signing", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			a.Edit("trixie/InRelease", func(b []byte) []byte { return []byte(strings.Replace(string(b), "Origin: Test", "Origin: Best", 1)) })
		}, debian.ErrSignature, "key "},
		{"unsigned", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			a.Edit("trixie/InRelease", func([]byte) []byte { return []byte("Suite: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n") })
		}, debian.ErrUnsigned, ""},
		{"signature cut off", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			a.Edit("trixie/InRelease", func(b []byte) []byte { return b[:strings.Index(string(b), "-----BEGIN PGP SIGNATURE")] })
		}, debian.ErrUnsigned, ""},
		{"unsigned text before the message", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			a.Edit("trixie/InRelease", func(b []byte) []byte { return append([]byte("Suite: evil\n"), b...) })
		}, debian.ErrUnsigned, ""},
		{"unsigned text after the message", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			a.Edit("trixie/InRelease", func(b []byte) []byte { return append(b, "SHA256:\n"...) })
		}, debian.ErrSignature, "after the signed message"},
		{"expired", func(_ *testing.T, a *debiantest.Archive, c *debian.Archive) {
			a.Until = a.Date.Add(7 * 24 * time.Hour)
			a.Publish()
			c.Now = func() time.Time { return a.Until.Add(time.Minute) }
		}, debian.ErrExpired, "valid until 2026-09-19"},
		{"another suite under this name", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			a.Suite = "bookworm"
			a.Publish()
			a.Suite = "trixie"
			var other []byte
			a.Edit("dists/bookworm/InRelease", func(b []byte) []byte { other = b; return b })
			a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/debian/dists/trixie/InRelease" {
					return false
				}
				w.Write(other)
				return true
			})
		}, debian.ErrWrongSuite, `codename "bookworm"`},
		{"the security pocket served as main", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			var sec []byte
			a.Edit("trixie-security/InRelease", func(b []byte) []byte { sec = b; return b })
			a.Edit("dists/trixie/InRelease", func([]byte) []byte { return sec })
		}, debian.ErrWrongSuite, ""},
		{"no index for the architecture", func(_ *testing.T, a *debiantest.Archive, _ *debian.Archive) {
			a.Arch = "riscv64"
			a.Publish()
		}, nil, "no Packages index for amd64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := debiantest.New(t)
			kernels(a)
			a.Publish()
			c := client(a)
			if _, err := client(a).Find(context.Background(), "trixie", "amd64", "systemd-boot-efi"); err != nil {
				t.Fatalf("the archive is bad before the test made it so: %v", err)
			}
			tc.bad(t, a, c)
			got, err := c.Find(context.Background(), "trixie", "amd64", "systemd-boot-efi")
			if err == nil {
				t.Fatalf("accepted, found %v", got)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %v, want %v", err, tc.is)
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %q, want it to say %q", err, tc.says)
			}
		})
	}
}

// TestSecondSignatureCounts: a first signature by an expired but known key must
// not hide a second, good one.
func TestSecondSignatureCounts(t *testing.T) {
	a := debiantest.New(t)
	a.Publish()
	other := debiantest.NewKey(t)
	text := "Suite: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n"
	b := signTwice(t, text, other, a.Key, a.Date)
	if _, err := debian.ParseRelease(b, "trixie", a.Keys(), a.Now()); err != nil {
		t.Errorf("key of the second signature: %v", err)
	}
	if _, err := debian.ParseRelease(b, "trixie", openpgp.EntityList{other, a.Key}, a.Now()); err != nil {
		t.Errorf("both keys: %v", err)
	}
	if _, err := debian.ParseRelease(b, "trixie", openpgp.EntityList{debiantest.NewKey(t)}, a.Now()); !errors.Is(err, debian.ErrSignature) {
		t.Errorf("a third key: %v, want %v", err, debian.ErrSignature)
	}
}

// TestRealArchive checks the embedded keyring and the parsers against the
// archive that users have, with the smallest of its pockets.
func TestRealArchive(t *testing.T) {
	if os.Getenv("INGOT_OFFLINE") == "1" {
		t.Skip("INGOT_OFFLINE=1: no network")
	}
	m := debian.HostMirrors(os.DirFS("/"))
	if len(m.Main) == 0 {
		t.Skip("the host's apt names no Debian mirror")
	}
	c := &debian.Archive{Main: m.Main, Security: m.Security, Pockets: []string{debian.PocketSecurity}, Source: plainSource{}}
	for _, suite := range []string{"trixie", "bookworm"} {
		p, err := c.Find(context.Background(), suite, "amd64", "linux-image-cloud-amd64")
		var missing *debian.NotFoundError
		if errors.As(err, &missing) {
			continue // no kernel update lies in the security pocket today
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Via == "" || p.Size < 1<<20 || p.Date.Year() < 2025 {
			t.Errorf("%s: %+v", suite, p)
		}
	}
}
