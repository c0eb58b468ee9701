package bls

import (
	"fmt"
	"slices"
	"strings"
)

// Entry is a type #1 entry: the file loader/entries/NAME.conf. Exactly one of
// Linux and EFI is set. Paths begin at the partition's root, with slashes.
type Entry struct {
	Name         string // of the file, without ".conf"
	Title        string
	Version      string
	SortKey      string
	MachineID    string
	Architecture string // as UAPI.1 names it: x64, aa64
	Linux        string
	Initrd       []string
	EFI          string
	Options      []string // one line each
	Other        []Field  // lines of other keys, in order
}

// MarshalText implements encoding.TextMarshaler.
func (e Entry) MarshalText() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("write boot entry: %w", err)
	}
	var fields []Field
	add := func(key string, values ...string) {
		for _, v := range values {
			if v != "" {
				fields = append(fields, Field{key, v})
			}
		}
	}
	add("title", e.Title)
	add("version", e.Version)
	add("machine-id", e.MachineID)
	add("sort-key", e.SortKey)
	add("architecture", e.Architecture)
	add("linux", e.Linux)
	add("initrd", e.Initrd...)
	add("efi", e.EFI)
	add("options", e.Options...)
	return writeFields("boot entry "+e.Name, append(fields, e.Other...))
}

func (e Entry) check() error {
	if err := checkID(e.Name); err != nil {
		return err
	}
	if e.Title == "" {
		return fmt.Errorf("%s: title is required", e.Name)
	}
	if (e.Linux == "") == (e.EFI == "") {
		return fmt.Errorf("%s: exactly one of linux and efi is required", e.Name)
	}
	if e.EFI != "" && len(e.Initrd) > 0 {
		return fmt.Errorf("%s: initrd belongs to linux, not to efi", e.Name)
	}
	for _, p := range slices.Concat([]string{e.Linux, e.EFI}, e.Initrd) {
		if p != "" && (!strings.HasPrefix(p, "/") || strings.Contains(p, `\`) || slices.Contains(strings.Split(p, "/"), "..")) {
			return fmt.Errorf("%s: %q is not a path from the partition's root", e.Name, p)
		}
	}
	return nil
}

// ParseEntry reads the text of loader/entries/NAME.conf. It does not demand
// what MarshalText demands, so that any file can be shown.
func ParseEntry(name string, b []byte) (Entry, error) {
	e := Entry{Name: name}
	fields, err := readFields("boot entry "+name, b)
	if err != nil {
		return Entry{}, err
	}
	single := map[string]*string{"title": &e.Title, "version": &e.Version, "machine-id": &e.MachineID, "sort-key": &e.SortKey,
		"architecture": &e.Architecture, "linux": &e.Linux, "efi": &e.EFI}
	for _, f := range fields {
		switch to, ok := single[f.Key]; {
		case ok:
			*to = f.Value
		case f.Key == "initrd":
			e.Initrd = append(e.Initrd, f.Value)
		case f.Key == "options":
			e.Options = append(e.Options, f.Value)
		default:
			e.Other = append(e.Other, f)
		}
	}
	return e, nil
}
