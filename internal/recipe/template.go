package recipe

import (
	"path/filepath"
	"regexp"
	"strings"
)

// InitYAML returns the files that `ingot init DIR` writes, by path below dir:
// a complete appliance with one Go service. The appliance is named after the
// directory as far as its name allows.
func InitYAML(dir string) map[string]string {
	name := nameFrom(dir)
	return map[string]string{
		"appliance.yaml": strings.ReplaceAll(initRecipe, "NAME", name),
		"main.go":        strings.ReplaceAll(initMain, "NAME", name),
		"go.mod":         "module example/" + name + "\n\ngo 1.24\n", // Go keeps example/ free: "go" or "cmd" alone would be its own
	}
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// nameFrom makes an appliance name out of a directory's.
func nameFrom(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-")
	name = strings.TrimLeft(name, "0123456789-")
	if name == "" {
		return "hello"
	}
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

const initRecipe = `# What is in the image. Every key: docs/recipe.md.
#   ingot check    look for mistakes       ingot build    make the image
#   ingot lock     pin all inputs          ingot run out/NAME-0.1.0    boot it
name: NAME
version: 0.1.0
arch: amd64

# Drivers. virtio is for virtual machines; server and edge are for metal and
# want kernel: {package: linux-image-amd64}.
modules: [virtio]

# Go programs, compiled into /bin. This one is main.go beside this file.
go:
  - package: .
    name: NAME

users:
  - {name: app, uid: 1000}

network:
  - dhcp: true

services:
  - name: NAME
    command: /bin/NAME
    args: [-listen, ":8080"]
    user: app
    health:
      http: {port: 8080, path: /}

# What ingot test expects of the booted machine.
smoke:
  - name: says hello
    http: {port: 8080, path: /, body: hello from NAME}
`

const initMain = `// Command NAME says hello over HTTP.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	listen := flag.String("listen", ":8080", "address to listen on")
	flag.Parse()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "hello from NAME on %s\n", host)
	})
	log.Printf("listening on %s", *listen)
	log.Fatal(http.ListenAndServe(*listen, nil))
}
`
