package debian

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestHostMirrors(t *testing.T) {
	const official = `
Types: deb deb-src
URIs: http://deb.example.org/debian
Suites: bookworm bookworm-updates
# a comment
Components: main

Types: deb
URIs: http://deb.example.org/debian-security
Suites: bookworm-security
Components: main
`
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  Mirrors
	}{
		{"no apt at all", nil, Mirrors{}},
		{"a container image of Debian", map[string]string{"etc/apt/sources.list.d/debian.sources": official},
			Mirrors{Main: []string{"http://deb.example.org/debian"}, Security: []string{"http://deb.example.org/debian-security"}}},
		{"third parties use Debian's suite names", map[string]string{
			"etc/apt/sources.list": "deb [arch=amd64 signed-by=/x] https://download.example.com/linux/debian bookworm stable\n" +
				"deb https://apt.example.com bookworm main\ndeb https://packages.example.com/apt sdk-bookworm main\n" +
				"deb cdrom:[Debian]/ bookworm main\ndeb file:/srv/debian bookworm main\n#deb http://off.example.org/debian bookworm main\n"},
			Mirrors{}},
		{"a company's mirror under another name", map[string]string{
			"etc/apt/sources.list": "deb http://apt.corp/remote/ trixie main contrib # ours\ndeb http://apt.corp/remote/ trixie-updates main contrib\n" +
				"deb-src http://src.corp/debian trixie main\ndeb https://sec.corp/debian-security trixie-security main\n"},
			Mirrors{Main: []string{"http://apt.corp/remote"}, Security: []string{"https://sec.corp/debian-security"}}},
		{"old security suites, several mirrors", map[string]string{
			"etc/apt/sources.list":          "deb http://a.example/debian bullseye main\ndeb http://b.example/debian bullseye main\ndeb http://s.example/debian-security bullseye/updates main\n",
			"etc/apt/sources.list.d/x.list": "deb http://a.example/debian bullseye main\n"},
			Mirrors{Main: []string{"http://a.example/debian", "http://b.example/debian"}, Security: []string{"http://s.example/debian-security"}}},
		{"disabled, and continuation lines", map[string]string{
			"etc/apt/sources.list.d/a.sources": "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n\n" +
				"Types: deb\nURIs:\n http://one.example/debian\n http://two.example/debian/\nSuites: trixie\nComponents: main\n"},
			Mirrors{Main: []string{"http://one.example/debian", "http://two.example/debian"}, Security: []string{"http://one.example/debian-security", "http://two.example/debian-security"}}},
		{"proxy, flat", map[string]string{"etc/apt/apt.conf.d/01proxy": "// Acquire::http::Proxy \"http://old:1\";\nAcquire::http::Proxy \"http://proxy:3142\";\n"},
			Mirrors{Proxy: "http://proxy:3142"}},
		{"proxy, nested, last file wins", map[string]string{
			"etc/apt/apt.conf.d/01": "Acquire::http::Proxy \"http://first:1\";",
			"etc/apt/apt.conf.d/02": "APT { List { \"a\"; }; };\n/* { */ Acquire { Retries \"3\"; http { Proxy \"http://second:2\"; Proxy::host.example \"DIRECT\"; }; };"},
			Mirrors{Proxy: "http://second:2"}},
		{"proxy switched off", map[string]string{"etc/apt/apt.conf": "Acquire::http::Proxy \"DIRECT\";"},
			Mirrors{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tc.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if d := cmp.Diff(tc.want, HostMirrors(root)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func FuzzHostMirrors(f *testing.F) {
	f.Add("deb http://deb.example.org/debian trixie main\n", "Acquire::http { Proxy \"x\"; };")
	f.Add("deb [a=b", "{ } } /* \" //")
	f.Fuzz(func(t *testing.T, list, conf string) {
		m := HostMirrors(fstest.MapFS{
			"etc/apt/sources.list":             {Data: []byte(list)},
			"etc/apt/sources.list.d/x.sources": {Data: []byte(list)},
			"etc/apt/apt.conf":                 {Data: []byte(conf)},
		})
		if len(m.Main) > 0 && len(m.Security) == 0 {
			t.Errorf("main mirrors %q and no security archive", m.Main)
		}
	})
}
