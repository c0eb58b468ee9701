package debian

import (
	"bufio"
	"bytes"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Mirrors are the roots of a host's archives, best first.
type Mirrors struct {
	Main     []string
	Security []string
	Proxy    string // apt's Acquire::http::Proxy, "" when apt sets none or DIRECT
}

// HostMirrors reads the configuration of apt below root, which is os.DirFS("/")
// on a real host: sources.list, sources.list.d/*.list and *.sources
// (sources.list(5)), and the proxy from apt.conf and apt.conf.d (apt.conf(5)).
// Only http and https mirrors that look like a Debian archive count; a host that
// names none has none, and where it names only main mirrors the security archive
// is expected beside them (SecurityOf). Files that are missing or malformed are
// passed over, as apt's own warnings are apt's job.
func HostMirrors(root fs.FS) Mirrors {
	var m Mirrors
	for _, e := range hostEntries(root) {
		for _, u := range e.uris {
			for _, suite := range e.suites {
				m.add(e, u, suite)
			}
		}
	}
	if len(m.Security) == 0 {
		for _, main := range m.Main {
			m.Security = append(m.Security, SecurityOf(main))
		}
	}
	m.Proxy = hostProxy(root)
	return m
}

// SecurityOf is where Debian's mirrors have the security archive: beside the
// main one, "/debian-security" beside "/debian".
func SecurityOf(main string) string { return strings.TrimSuffix(main, "/") + "-security" }

// entry is one line of sources.list or one paragraph of a .sources file.
type entry struct {
	uris, suites, components []string
}

// suiteNames are the suites an entry of which tells a Debian mirror.
var suiteNames = strings.Fields("bullseye bookworm trixie forky duke sid oldoldstable oldstable stable testing unstable")

func (m *Mirrors) add(e entry, uri, suite string) {
	base, pocket, _ := strings.Cut(strings.Replace(suite, "/updates", "-security", 1), "-")
	if !slices.Contains(suiteNames, base) || !slices.Contains(e.components, "main") || !e.isDebian(uri) {
		return
	}
	uri = strings.TrimSuffix(uri, "/")
	switch pocket {
	case "":
		m.Main = appendNew(m.Main, uri)
	case "security":
		m.Security = appendNew(m.Security, uri)
	}
}

// isDebian tells Debian's archive from the many third-party ones that use
// Debian's suite names: by its address, or by the components only Debian has.
func (e entry) isDebian(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	for _, c := range []string{"contrib", "non-free", "non-free-firmware"} {
		if slices.Contains(e.components, c) {
			return true
		}
	}
	for _, s := range e.suites {
		if strings.HasSuffix(s, "-updates") {
			return true
		}
	}
	last := path.Base(u.Path)
	return last == "debian" || last == "debian-security"
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func hostEntries(root fs.FS) []entry {
	var list []entry
	names := []string{"etc/apt/sources.list"}
	for _, pattern := range []string{"etc/apt/sources.list.d/*.list", "etc/apt/sources.list.d/*.sources"} {
		found, _ := fs.Glob(root, pattern)
		names = append(names, found...)
	}
	for _, name := range names {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		if strings.HasSuffix(name, ".sources") {
			list = append(list, parseDeb822(b)...)
		} else {
			list = append(list, parseList(b)...)
		}
	}
	return list
}

// parseList reads the one-line form: deb [options] uri suite component...
func parseList(b []byte) []entry {
	var list []entry
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			_, line, _ = strings.Cut(line, "]")
		}
		if f := strings.Fields(line); len(f) >= 3 {
			list = append(list, entry{f[:1], f[1:2], f[2:]})
		}
	}
	return list
}

// parseDeb822 reads the paragraph form.
func parseDeb822(b []byte) []entry {
	var list []entry
	fields := map[string][]string{}
	flush := func() {
		if slices.Contains(fields["types"], "deb") && !slices.Contains(fields["enabled"], "no") {
			list = append(list, entry{fields["uris"], fields["suites"], fields["components"]})
		}
		fields = map[string][]string{}
	}
	key := ""
	in := bufio.NewScanner(bytes.NewReader(b))
	for in.Scan() {
		line := in.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
			key = ""
		case line[0] == ' ' || line[0] == '\t':
			fields[key] = append(fields[key], strings.Fields(line)...)
		default:
			k, v, _ := strings.Cut(line, ":")
			key = strings.ToLower(strings.TrimSpace(k))
			fields[key] = strings.Fields(v)
		}
	}
	flush()
	return list
}

// hostProxy finds Acquire::http::Proxy; the last file that sets it wins, as in apt.
func hostProxy(root fs.FS) string {
	names, _ := fs.Glob(root, "etc/apt/apt.conf.d/*")
	names = append(names, "etc/apt/apt.conf")
	proxy := ""
	for _, name := range names {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		if v, ok := confValue(string(b), "acquire::http::proxy"); ok {
			proxy = v
		}
	}
	if proxy == "DIRECT" {
		return ""
	}
	return proxy
}

// confValue looks a key up in apt.conf syntax: scopes joined by "::" or nested
// in braces, values in quotes, comments by //, # and /* */. Lists are skipped.
func confValue(text, key string) (value string, ok bool) {
	var scopes []string
	words := confWords(text)
	for i, w := range words {
		prev := ""
		if i > 0 {
			prev = words[i-1]
		}
		switch {
		case w == "{":
			scopes = append(scopes, prev)
		case w == "}":
			scopes = scopes[:max(0, len(scopes)-1)]
		case w[0] == '"' && prev != "":
			name := strings.ToLower(strings.Join(append(slices.Clone(scopes), prev), "::"))
			if name == key {
				value, ok = strings.Trim(w, `"`), true
			}
		}
	}
	return value, ok
}

func confWords(text string) []string {
	var words []string
	for text != "" {
		switch {
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text, "*/")
		case strings.HasPrefix(text, "//"), text[0] == '#':
			_, text, _ = strings.Cut(text, "\n")
		case strings.IndexByte("{}", text[0]) >= 0:
			words, text = append(words, text[:1]), text[1:]
		case strings.IndexByte(" \t\r\n;", text[0]) >= 0:
			text = text[1:]
		case text[0] == '"':
			end := strings.IndexByte(text[1:], '"') + 2
			if end < 2 {
				return words
			}
			words, text = append(words, text[:end]), text[end:]
		default:
			end := strings.IndexAny(text, " \t\r\n;{}\"")
			if end < 0 {
				end = len(text)
			}
			words, text = append(words, text[:end]), text[end:]
		}
	}
	return words
}
