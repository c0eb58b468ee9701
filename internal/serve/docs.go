package serve

import (
	"reflect"

	"github.com/ingot-os/ingot/internal/strictyaml/keydoc"
)

// Schema returns the JSON Schema of serve.yaml; docs/serve.schema.json is a copy.
func Schema() []byte {
	return keydoc.Schema("urn:ingot:serve", "ingot serve configuration (serve.yaml)", reflect.TypeFor[Config](), Keys())
}

// Reference returns docs/serve-keys.md.
func Reference() []byte {
	return keydoc.Markdown("serve.yaml", docIntro, docSections, reflect.TypeFor[Config](), Keys())
}

const docIntro = `
The configuration of ` + "`ingot serve`" + `, the server that machines boot from and attest to.
[serve.md](serve.md) says how it is run, [netboot.md](netboot.md) how a boot goes.

` + "```yaml" + `
releases: [/srv/ingot/releases]
default: hello
keys: /etc/ingot/keys
interfaces: [eth1]
dhcp:
  mode: full
  subnets:
    - subnet: 192.0.2.0/24
      pools: [192.0.2.100-192.0.2.200]
      router: 192.0.2.1
` + "```" + `

` + "`ingot serve -c serve.yaml --check`" + ` reads all of it, says what it would do, and serves nothing.
The rules of YAML are those of a recipe (see [recipe.md](recipe.md)): unknown keys and wrong
types are errors with line, column and a hint. Paths are relative to the file.
` + "`systemctl reload`" + ` (SIGHUP) reads it again: [serve.md](serve.md#what-a-reload-takes-and-what-needs-a-restart) says what counts at once.
`

var docSections = []keydoc.Section{
	{Title: "What machines boot", Keys: []string{"releases", "default", "rules", "machines", "trial"}},
	{Title: "Who the server is", Keys: []string{"keys", "trust", "insecureReleases", "state", "names", "user"}},
	{Title: "Where machines are", Keys: []string{"interfaces", "address", "dhcp", "dhcp6"}},
	{Title: "Files", Keys: []string{"tftp", "http", "https", "ipxe"}},
	{Title: "Attestation and metrics", Keys: []string{"attest", "metrics"}},
}
