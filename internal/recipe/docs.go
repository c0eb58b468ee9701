package recipe

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/ingot-os/ingot/internal/strictyaml/keydoc"
)

// Schema returns the JSON Schema of appliance.yaml; docs/appliance.schema.json
// is a copy.
func Schema() []byte {
	return keydoc.Schema("urn:ingot:appliance", "ingot appliance recipe (appliance.yaml)", reflect.TypeFor[Recipe](), Keys())
}

// Reference returns docs/recipe.md.
func Reference() []byte {
	sections := make([]keydoc.Section, len(docSections))
	copy(sections, docSections)
	for i := range sections {
		sections[i].Outro = strings.ReplaceAll(sections[i].Outro, "GROUPS", groupTable())
	}
	return keydoc.Markdown("appliance.yaml", docIntro, sections, reflect.TypeFor[Recipe](), Keys())
}

func groupTable() string {
	var b strings.Builder
	b.WriteString("| group | drivers for |\n|---|---|\n")
	for _, g := range Groups {
		fmt.Fprintf(&b, "| `%s` | %s |\n", g.Name, g.For)
	}
	return b.String()
}

const docIntro = `
A recipe says what an appliance is: its kernel, the programs in it, the services
that run, the shape of its disk. ` + "`ingot lock`" + ` pins every input it names in
` + "`appliance.lock`, `ingot build`" + ` makes the image out of the two. The smallest
recipe that does something:

` + "```yaml" + `
name: hello
version: 0.1.0

go:
  - package: ./service        # a Go main package beside the recipe
    name: hello

services:
  - name: hello
    command: /bin/hello
    health:
      http: {port: 8080}
` + "```" + `

` + "`ingot init DIR`" + ` writes a complete one, ` + "`ingot check`" + ` looks for everything that
would keep it from booting, without building it.

**How it is read.** YAML 1.2, one document, at most 1 MiB. Unknown keys, values
of another type and impossible combinations are errors, reported all at once
with line, column and a hint. Nothing is converted behind your back:
` + "`version: 1.10`" + ` is a number and therefore refused, ` + "`version: \"1.10\"`" + ` is a version.
Anchors and aliases work; tags and merge keys (` + "`<<`" + `) do not exist. Paths of local
files are relative to the recipe. Sizes are powers of 1024: ` + "`128M` and `128MiB`" + ` are
the same. Durations carry their unit: ` + "`500ms`, `10s`, `2m`" + `. For completion in an
editor put this in the first line, with the path to the schema of your ingot:

` + "```yaml" + `
# yaml-language-server: $schema=docs/appliance.schema.json
` + "```" + `

Comments, the order of keys and the way a size is written have no part in the
identity of a recipe: changing them invalidates no lock.
`

var docSections = []keydoc.Section{
	{Title: "What it is", Keys: []string{"name", "version", "arch", "epoch"}},
	{Title: "Kernel and boot file", Keys: []string{"kernel", "stub", "modules", "firmware", "cmdline", "compress", "mirror", "snapshot"},
		Intro: "Kernel, command line and everything in the initramfs become one EFI program, the boot file (a unified kernel image). The firmware starts it directly from disk or network.",
		Outro: "### Module groups\n\nGROUPS\nModules that a key needs come by themselves: `efivarfs`, `button` and `tpm` always, `ext4` for the data partition, `verity` for a root payload, `watchdog` for updates, `8021q` and `bonding` for such links."},
	{Title: "Programs and files", Keys: []string{"go", "uroot", "files", "users"}},
	{Title: "Network and time", Keys: []string{"network", "certificates", "ntp", "management"},
		Intro: "What is the same on all machines. A machine's own addresses, name and time servers belong into its [machine.yaml](machine.md), which replaces these."},
	{Title: "Services", Keys: []string{"services", "smoke"},
		Intro: "ingot-init is the first process. It starts services in the order of `after`, runs each as its user without privileges it was not given (no-new-privs is always set), restarts it as told and watches its health. A boot of a new image counts as good when every service is healthy."},
	{Title: "Disk", Keys: []string{"disk", "data", "root", "boot", "outputs"},
		Intro: "The disk is always laid out the same way: EFI system partition, slots A and B, root partitions A and B when there is a root payload, 16 MiB of state, data."},
	{Title: "Trust, updates and vulnerabilities", Keys: []string{"trust", "attest", "securityEpoch", "update", "netboot", "install", "scan"},
		Intro: "What signs an image is no matter of its recipe; what a machine believes is. [secure-boot.md](secure-boot.md) goes the whole way from making keys to a machine that refuses everything else."},
}
