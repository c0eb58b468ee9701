package network

import (
	"net"
	"slices"
	"strings"
	"testing"
)

func TestAnnounced(t *testing.T) {
	option := func(code byte, text string) string { return string([]byte{code, byte(len(text))}) + text }
	const url = "https://ingot.example.com:8443"
	for _, c := range []struct{ name, vendor, want string }{
		{"none", "", ""},
		{"alone", option(1, url), url},
		{"behind others", "\x00\x00" + option(6, "PXE") + option(1, url) + "\xff", url},
		{"behind the end", "\xff" + option(1, url), ""},
		{"another code", option(2, url), ""},
		{"cut", option(1, url)[:20], ""},
		{"length alone", "\x01", ""},
		{"plain http", option(1, "http://ingot.example.com"), ""},
		{"control characters", option(1, "https://a\x1b[2J"), ""},
		{"space", option(1, "https://a b"), ""},
		{"too long", option(1, "https://"+strings.Repeat("a", 200)), ""},
	} {
		if got := announced([]byte(c.vendor)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestAnnouncedBoot: the boot server has a code and a scheme of its own.
func TestAnnouncedBoot(t *testing.T) {
	option := func(code byte, text string) string { return string([]byte{code, byte(len(text))}) + text }
	vendor := option(1, "https://192.0.2.1:9444") + option(2, "http://192.0.2.1:8080") + "\xff"
	if got := announcedBoot([]byte(vendor)); got != "http://192.0.2.1:8080" {
		t.Errorf("%q", got)
	}
	if got := announcedBoot([]byte(option(2, "https://192.0.2.1"))); got != "" {
		t.Errorf("%q is no plain address", got)
	}
	m := &Manager{}
	m.announceBoot(&lease{boot: "http://192.0.2.1:8080", next: net.IPv4(192, 0, 2, 7)})
	m.announceBoot(&lease{next: net.IPv4zero}) // of another link
	if got := m.BootServers(); !slices.Equal(got, []string{"http://192.0.2.1:8080", "http://192.0.2.7"}) {
		t.Errorf("%q", got)
	}
}

// TestAnnouncementEnds: a server is named as long as a lease names it.
func TestAnnouncementEnds(t *testing.T) {
	m := &Manager{status: make([]Status, 2)}
	for _, c := range []struct {
		row       int
		url, want string
	}{
		{1, "", ""},
		{1, "https://second", "https://second"},
		{0, "https://first", "https://first"},
		{0, "https://moved", "https://moved"},
		{0, "", "https://second"},
		{1, "", ""},
	} {
		if m.announce(c.row, c.url); m.Server() != c.want {
			t.Errorf("row %d says %q: %q, want %q", c.row, c.url, m.Server(), c.want)
		}
	}
}

func FuzzAnnounced(f *testing.F) {
	f.Add([]byte("\x01\x09https://a"))
	f.Add([]byte{0, 0, 6, 1, 2, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := announced(b); got != "" && (len(got) > maxServer || !strings.HasPrefix(got, "https://")) {
			t.Errorf("%q", got)
		}
	})
}
