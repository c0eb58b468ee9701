package machine

import (
	"reflect"

	"github.com/ingot-os/ingot/internal/strictyaml/keydoc"
)

// Schema returns the JSON Schema of machine.yaml; docs/machine.schema.json is a copy.
func Schema() []byte {
	return keydoc.Schema("urn:ingot:machine", "ingot machine configuration (machine.yaml)", reflect.TypeFor[Machine](), Keys())
}

// Reference returns docs/machine.md.
func Reference() []byte {
	return keydoc.Markdown("machine.yaml", docIntro, docSections, reflect.TypeFor[Machine](), Keys())
}

const docIntro = `
What differs from machine to machine never changes the image: it is in a file of
its own, at most 64 KiB, kept in the state partition. It survives updates.

` + "```yaml" + `
hostname: edge-042
labels: {site: oslo-7, ring: canary}
network:
  - match: {mac: "52:54:00:12:34:56"}
    address: ["192.0.2.10/24"]
    gateway: 192.0.2.1
    dns: [192.0.2.53]
ntp: [192.0.2.123]
` + "```" + `

` + "`ingot flash --machine FILE`" + ` puts it on a disk and ` + "`ingot run --machine FILE`" + ` into
a virtual machine. Both check it first with the same code as the machine itself.
The machine reads it at every boot, before the network comes up, measures it into
PCR 15 of its TPM before it uses any of it, and shows its SHA-256 in ` + "`/v1/status`" + `. A file that is broken is reported there and on the console;
the machine then uses the recipe's network, so that it can still be reached.

Every key is optional. The rules of YAML are those of a recipe (see
[recipe.md](recipe.md)): unknown keys and wrong types are errors with line,
column and a hint. Secrets do not belong here: the file is shown to whoever may
read the machine's status.
`

var docSections = []keydoc.Section{
	{Title: "Identity", Keys: []string{"hostname", "labels", "server"}},
	{Title: "Network and time", Keys: []string{"network", "ntp"},
		Intro: "A key that is given replaces the whole of the recipe's; a key that is not given leaves the recipe's in force."},
}
