package bls

import (
	"fmt"
	"strconv"
	"strings"
)

// LoaderConf is loader.conf. Its zero value boots the newest image at once,
// with no menu, no editor, and no entries that ingot did not write.
type LoaderConf struct {
	Timeout      int    // seconds that the menu waits; 0 boots at once
	Default      string // pattern of the entry's file name without a counter; "" is the first of the list
	Editor       bool   // lets anyone at the console change the command line, unless Secure Boot is on
	AutoEntries  bool   // lists other systems and shells that are found
	AutoFirmware bool   // lists the firmware's own setup
	ConsoleMode  string // "" leaves the mode as it is
	// Other are lines of other keys, in order.
	Other []Field
}

// Field is one line KEY VALUE.
type Field struct{ Key, Value string }

// maxFile bounds a configuration file, in bytes.
const maxFile = 64 << 10

// maxTimeout is one hour. systemd-boot holds the number in 32 bits and gives
// the highest values meanings of their own.
const maxTimeout = 3600

// MarshalText implements encoding.TextMarshaler. Every switch is written out:
// the defaults of systemd-boot are the other way round, and differ by version.
func (c LoaderConf) MarshalText() ([]byte, error) {
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		return nil, fmt.Errorf("write loader.conf: timeout %d is not within 0..%d seconds", c.Timeout, maxTimeout)
	}
	fields := []Field{{"timeout", strconv.Itoa(c.Timeout)}}
	if c.Default != "" {
		fields = append(fields, Field{"default", c.Default})
	}
	fields = append(fields, Field{"editor", yesNo(c.Editor)}, Field{"auto-entries", yesNo(c.AutoEntries)}, Field{"auto-firmware", yesNo(c.AutoFirmware)})
	if c.ConsoleMode != "" {
		fields = append(fields, Field{"console-mode", c.ConsoleMode})
	}
	return writeFields("loader.conf", append(fields, c.Other...))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// ParseLoaderConf reads loader.conf. The last line of a key counts, as in
// systemd-boot; defaults of missing keys are systemd-boot's.
func ParseLoaderConf(b []byte) (LoaderConf, error) {
	c := LoaderConf{Editor: true, AutoEntries: true, AutoFirmware: true}
	fields, err := readFields("loader.conf", b)
	if err != nil {
		return LoaderConf{}, err
	}
	for _, f := range fields {
		if err := c.set(f); err != nil {
			return LoaderConf{}, fmt.Errorf("parse loader.conf: %s %s: %w", f.Key, f.Value, err)
		}
	}
	return c, nil
}

func (c *LoaderConf) set(f Field) (err error) {
	switch f.Key {
	case "timeout":
		if f.Value == "menu-hidden" || f.Value == "menu-force" || f.Value == "menu-disabled" {
			c.Other = append(c.Other, f)
			return nil
		}
		c.Timeout, err = strconv.Atoi(f.Value)
		if err == nil && (c.Timeout < 0 || c.Timeout > maxTimeout) {
			err = fmt.Errorf("not within 0..%d seconds", maxTimeout)
		}
	case "default":
		c.Default = f.Value
	case "editor":
		c.Editor, err = parseBool(f.Value)
	case "auto-entries":
		c.AutoEntries, err = parseBool(f.Value)
	case "auto-firmware":
		c.AutoFirmware, err = parseBool(f.Value)
	case "console-mode":
		c.ConsoleMode = f.Value
	default:
		c.Other = append(c.Other, f)
	}
	return err
}

// parseBool takes the words that systemd-boot takes.
func parseBool(s string) (bool, error) {
	switch s {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("not a boolean")
}

// writeFields writes lines KEY VALUE.
func writeFields(name string, fields []Field) ([]byte, error) {
	var b strings.Builder
	for _, f := range fields {
		if f.Key == "" || strings.ContainsAny(f.Key, " \t\r\n#\x00") {
			return nil, fmt.Errorf("write %s: %q is not a key", name, f.Key)
		}
		if f.Value == "" || unquote(f.Value) != f.Value || f.Value != strings.TrimSpace(f.Value) || strings.ContainsAny(f.Value, "\r\n\x00") {
			return nil, fmt.Errorf("write %s: %s: %q is not a value of one line", name, f.Key, f.Value)
		}
		b.WriteString(f.Key + " " + f.Value + "\n")
	}
	if b.Len() > maxFile {
		return nil, fmt.Errorf("write %s: %d bytes are more than %d", name, b.Len(), maxFile)
	}
	return []byte(b.String()), nil
}

// readFields reads lines KEY VALUE; "#" begins a comment line. Like
// systemd-boot, it skips a line without a value and drops a pair of double
// quotes around one.
func readFields(name string, b []byte) ([]Field, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("parse %s: %d bytes are more than %d", name, len(b), maxFile)
	}
	var fields []Field
	for _, line := range strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.Trim(line, " \t")
		at := strings.IndexAny(line, " \t")
		if line == "" || line[0] == '#' || at < 0 {
			continue
		}
		if value := unquote(strings.Trim(line[at:], " \t")); value != "" {
			fields = append(fields, Field{line[:at], value})
		}
	}
	return fields, nil
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
