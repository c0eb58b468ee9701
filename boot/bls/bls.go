// Package bls writes and reads what systemd-boot is configured by: loader.conf
// (loader.conf(5) of systemd 252 to 257), Boot Loader Specification entries of
// type #1 and the file names of type #2 (UAPI.1). Files gives the EFI system
// partition of an image whose recipe says "loader: systemd-boot".
//
// # Where the images are
//
// systemd-boot lists files of the partition it was started from and of one
// XBOOTLDR partition, and of no other. Slots that are partitions of a type of
// their own cannot be listed: a type #1 entry names files of its own partition
// only. So in this mode the unified kernel images are files below EFI/Linux on
// the ESP, and the slot partitions stay empty. The loader itself is the file
// that firmware starts without any variable (EFI/BOOT/BOOTX64.EFI), which is
// the point of the mode: it needs no working NVRAM.
//
// systemd-boot takes the entry that "default" matches, else the first of its
// sorted list: images without tries left last, then by sort key, then by
// version, newest first. Files therefore names images by version and writes a
// "default" only when asked to. No loader/random-seed is made: where there is
// one, systemd-boot rewrites it at each boot.
//
// # Boot counting
//
// A name may carry a counter, STEM+LEFT-DONE.efi. systemd-boot renames the file
// before it starts it, and ignores every error of that, which fails open in
// two ways that were seen: a power cut inside the rename when the directory
// records of the name straddle a sector leaves a file without a counter, and a
// file with the read-only attribute is tried for ever. So CheckDirectory holds
// all records of EFI/Linux within one sector of 512 bytes, Files demands it as
// soon as one name is counted, counters have one digit each, and whoever
// confirms a boot must check on disk that the name has changed.
package bls

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// Paths on the EFI system partition.
const (
	ConfPath   = "loader/loader.conf"
	EntriesDir = "loader/entries"
	ImagesDir  = "EFI/Linux"
)

// ESP is the content of an EFI system partition with systemd-boot.
type ESP struct {
	Fallback string    // where firmware looks for the loader: EFI/BOOT/BOOTX64.EFI
	Loader   tree.Blob // systemd-bootx64.efi
	Conf     LoaderConf
	Images   []Image
	Entries  []Entry // of type #1; at most one per name
}

// Image is one unified kernel image.
type Image struct {
	Name    ImageName
	Content tree.Blob
}

// Files returns the files of the partition. Modes are 0644 and 0755: FAT knows
// only read-only or not, and nothing here may be read-only.
func Files(e ESP) (*tree.Tree, error) {
	t := new(tree.Tree)
	if e.Fallback == "" || e.Loader == nil || len(e.Images) == 0 {
		return nil, fmt.Errorf("list esp files: loader, its path and one image are required")
	}
	conf, err := e.Conf.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("list esp files: %w", err)
	}
	files := []file{{e.Fallback, e.Loader}, {ConfPath, tree.Bytes(conf)}}
	images, err := imageFiles(e.Images)
	if err != nil {
		return nil, fmt.Errorf("list esp files: %w", err)
	}
	entries, err := entryFiles(e.Entries)
	if err != nil {
		return nil, fmt.Errorf("list esp files: %w", err)
	}
	taken := map[string]string{}
	for _, f := range append(append(files, images...), entries...) {
		if other, ok := taken[strings.ToLower(f.path)]; ok {
			return nil, fmt.Errorf("list esp files: %s and %s are one name on FAT", other, f.path)
		}
		taken[strings.ToLower(f.path)] = f.path
		if err := t.Add(tree.Node{Path: f.path, Mode: fs.FileMode(0o644), Content: f.content}); err != nil {
			return nil, fmt.Errorf("list esp files: %w", err)
		}
	}
	return t, nil
}

type file struct {
	path    string
	content tree.Blob
}

func imageFiles(images []Image) ([]file, error) {
	var files []file
	var names []string
	counted := false
	for _, i := range images {
		name, err := i.Name.Format()
		if err != nil {
			return nil, err
		}
		if i.Content == nil {
			return nil, fmt.Errorf("image %s has no content", name)
		}
		names, counted = append(names, name), counted || i.Name.Counted
		files = append(files, file{path.Join(ImagesDir, name), i.Content})
	}
	if counted {
		return files, CheckDirectory(names)
	}
	return files, nil
}

func entryFiles(entries []Entry) ([]file, error) {
	var files []file
	for _, e := range entries {
		text, err := e.MarshalText()
		if err != nil {
			return nil, err
		}
		files = append(files, file{path.Join(EntriesDir, e.Name+".conf"), tree.Bytes(text)})
	}
	return files, nil
}
