// Command mkimage makes the container image of this example and pushes it to a
// registry on this machine, as docker build and docker push would:
//
//	go run . 127.0.0.1:5000/web:1.0
//
// The image has three layers. The second replaces and the third removes files
// of the first, because that is where programs that unpack images go wrong.
package main

import (
	"archive/tar"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("mkimage: ")
	arch := flag.String("arch", "amd64", "processor that the image is for")
	source := flag.String("source", "../web", "directory of the Go program")
	text := flag.String("text", "hello from a container image", "greeting")
	flag.Parse()
	registry, name, tag, err := parse(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	program, err := compile(*source, *arch)
	if err != nil {
		log.Fatal(err)
	}
	i, err := build(layers(program, *text+"\n"), *arch)
	if err != nil {
		log.Fatal(err)
	}
	digest, err := i.push("http://"+registry, name, tag)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s/%s@%s\n", registry, name, digest)
}

// parse cuts REGISTRY/NAME:TAG.
func parse(ref string) (registry, name, tag string, err error) {
	registry, rest, ok1 := strings.Cut(ref, "/")
	name, tag, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 {
		return "", "", "", fmt.Errorf("image %q: want REGISTRY/NAME:TAG, such as 127.0.0.1:5000/web:1.0", ref)
	}
	return registry, name, tag, nil
}

func compile(source, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "mkimage-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "web")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-tags=nethttpomithttp2", "-o", out, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, text)
	}
	return os.ReadFile(out)
}

const (
	assets = "usr/share/web/"
	web    = 1234 // uid and gid
)

// layers is the content of the image, from the lowest layer to the topmost.
func layers(program []byte, greeting string) []layer {
	photo := make([]byte, 4<<20) // noise, so that no compression hides it
	rand.NewChaCha8([32]byte{1}).Read(photo)
	note := map[string]string{"SCHILY.xattr.user.note": "kept"}
	return []layer{
		{compress: true, entries: []entry{
			{tar.Header{Name: "etc/passwd"}, []byte("root:x:0:0::/:/bin/false\nweb:x:1234:1234::/:/bin/false\n")},
			{tar.Header{Name: "etc/group"}, []byte("root:x:0:\nweb:x:1234:\n")},
			{tar.Header{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"}, nil},
			{tar.Header{Name: "tmp/", Mode: 0o1777}, nil},
			{tar.Header{Name: assets, Mode: 0o755}, nil},
			{tar.Header{Name: assets + "greeting.txt"}, []byte("covered by the layer above\n")},
			{tar.Header{Name: assets + "removed.txt"}, []byte("you should not see this\n")},
			{tar.Header{Name: assets + "news/", Mode: 0o755}, nil},
			{tar.Header{Name: assets + "news/old.txt"}, []byte("nor this\n")},
		}},
		{entries: []entry{
			{tar.Header{Name: "usr/bin/web", Mode: 0o755}, program},
			{tar.Header{Name: "usr/bin/web-again", Typeflag: tar.TypeLink, Linkname: "usr/bin/web"}, nil},
			{tar.Header{Name: assets + "greeting.txt", Uid: web, Gid: web, Mode: 0o640}, []byte(greeting)},
			{tar.Header{Name: assets + "photo", PAXRecords: note}, photo},
		}},
		{compress: true, entries: []entry{
			{tar.Header{Name: assets + ".wh.removed.txt"}, nil},
			{tar.Header{Name: assets + "news/.wh..wh..opq"}, nil},
			{tar.Header{Name: assets + "news/new.txt"}, []byte("today\n")},
			{tar.Header{Name: assets + "current", Typeflag: tar.TypeSymlink, Linkname: "greeting.txt"}, nil},
			{tar.Header{Name: assets + "photo-again", Typeflag: tar.TypeLink, Linkname: assets + "photo"}, nil},
		}},
	}
}
