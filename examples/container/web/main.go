// Command web is what the container image starts: it greets with the text of a
// file, and is healthy as long as it can read all of its assets.
package main

import (
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	greeting := flag.String("greeting", "greeting.txt", "file with the greeting")
	assets := flag.String("assets", "/usr/share/web", "directory of the assets")
	list := flag.Bool("list", false, "list the assets and end")
	flag.Parse()
	if *list {
		if err := walk(*assets, describe); err != nil {
			log.Fatal(err)
		}
		return
	}
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { greet(w, *greeting) })
	http.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		if err := walk(*assets, read); err != nil {
			log.Print(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	log.Print("listening on :8080")
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// greet shows what the image's configuration and the recipe made of this process.
func greet(w http.ResponseWriter, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	dir, _ := os.Getwd()
	fmt.Fprintf(w, "%sIMAGE=%s RECIPE=%s\nuid %d, gid %d, in %s, started as %q\n",
		text, os.Getenv("IMAGE"), os.Getenv("RECIPE"), os.Getuid(), os.Getgid(), dir, os.Args)
}

func walk(dir string, do func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return do(path, info)
	})
}

func read(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// describe prints one line: mode, owner, links, name, then size or target and
// the attribute user.note.
func describe(path string, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	fmt.Printf("%v %d:%d %d %s", info.Mode(), st.Uid, st.Gid, st.Nlink, path)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		fmt.Println(" ->", target)
		return err
	case info.Mode().IsRegular():
		fmt.Printf(" %d", info.Size())
	}
	value := make([]byte, 100)
	if n, err := syscall.Getxattr(path, "user.note", value); err == nil {
		fmt.Printf(" %q", value[:n])
	}
	fmt.Println()
	return nil
}
