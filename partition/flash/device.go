package flash

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind is what a path to flash to names.
type Kind string

// The kinds of Device.
const (
	Disk      Kind = "disk"      // a whole block device
	Partition Kind = "partition" // a partition of one
	File      Kind = "file"      // a regular file, a disk of a virtual machine
)

// Device is everything about a target that the decision to write it depends on.
type Device struct {
	Path       string `json:"path"` // as the operator gave it
	Name       string `json:"name"` // the kernel's: "sdb"; of a file its base name
	Kind       Kind   `json:"kind"`
	Parent     string `json:"parent,omitempty"` // of a partition: the disk's name
	Size       int64  `json:"size"`             // bytes
	SectorSize int    `json:"sectorSize"`       // logical sector in bytes; 0 for a file, which has none
	ReadOnly   bool   `json:"readOnly"`
	Removable  bool   `json:"removable"`
	Model      string `json:"model,omitempty"`
	ID         string `json:"id,omitempty"` // WWID or serial number, when the device has one
	Uses       []Use  `json:"uses,omitempty"`
}

// Use is one reason why the device is busy.
type Use struct {
	What   string `json:"what"`   // "mount", "swap" or "holder" (device mapper, md, ...)
	Device string `json:"device"` // kernel name of the disk, partition or holder that is used: "sdb1"
	Where  string `json:"where"`  // mount point, or name of the holder
}

// String names the device for people: "/dev/sdb (SanDisk Ultra, 29.8 GiB)".
func (d Device) String() string {
	words := []string{}
	if d.Model != "" {
		words = append(words, d.Model)
	}
	words = append(words, fmt.Sprintf("%.1f GiB", float64(d.Size)/(1<<30)))
	return d.Path + " (" + strings.Join(words, ", ") + ")"
}

// Confirm is the operator's word that a device which is not removable media is
// the right one: its path or kernel name, exactly.
type Confirm struct {
	Device string
	// Seen is the device that the operator was shown; nil when none was. What is
	// under its name by the time of writing must be the same: sticks are pulled
	// and others put in while a question waits.
	Seen *Device
}

// exchanged says what of the device is not as it was seen; "" when all is.
func (d Device) exchanged(seen Device) string {
	for _, f := range []struct{ what, now, then string }{
		{"kernel name", d.Name, seen.Name}, {"kind", string(d.Kind), string(seen.Kind)}, {"serial number", d.ID, seen.ID}, {"model", d.Model, seen.Model},
		{"size", fmt.Sprint(d.Size), fmt.Sprint(seen.Size)}, {"removable", fmt.Sprint(d.Removable), fmt.Sprint(seen.Removable)},
	} {
		if f.now != f.then {
			return fmt.Sprintf("its %s was %q, and now is %q", f.what, f.then, f.now)
		}
	}
	return ""
}

// Reason is why a device is refused.
type Reason string

// The reasons of a Refusal.
const (
	Mounted      Reason = "mounted"
	System       Reason = "system-disk"
	Swap         Reason = "swap"
	Held         Reason = "held" // by device mapper, md or another exclusive user
	TooSmall     Reason = "too-small"
	ReadOnly     Reason = "read-only"
	NotRemovable Reason = "not-removable"
	Exchanged    Reason = "exchanged" // not the device that was confirmed
	NotWhole     Reason = "not-a-whole-disk"
	BadSector    Reason = "sector-size"
	Foreign      Reason = "not-an-ingot-image"
	NoMap        Reason = "no-block-map"
	Damaged      Reason = "damaged-image" // its bytes are not those of its block map
)

// Refusal is one reason with its words.
type Refusal struct {
	Reason Reason
	Msg    string
	Hint   string // what the operator can do; may be empty
}

// RefusedError says why nothing was written.
type RefusedError struct {
	Path     string // device or image
	Refusals []Refusal
}

// Error implements error.
func (e *RefusedError) Error() string {
	msgs := make([]string, len(e.Refusals))
	for i, r := range e.Refusals {
		msgs[i] = r.Msg
	}
	return fmt.Sprintf("refuse %s: %s", e.Path, strings.Join(msgs, "; "))
}

// Hint says what the operator can do: the hints of all refusals, each once.
func (e *RefusedError) Hint() string {
	var out []string
	for _, r := range e.Refusals {
		if r.Hint != "" && !slices.Contains(out, r.Hint) {
			out = append(out, r.Hint)
		}
	}
	return strings.Join(out, "; ")
}

// UnfinishedError says that writing began and did not end well. The device's
// old content is gone, and what stands there now is not the image.
type UnfinishedError struct {
	Device string // path
	Err    error
}

// Error implements error.
func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("%v; %s is not finished", e.Err, e.Device)
}

// Hint says what to do next.
func (e *UnfinishedError) Hint() string {
	const again = "flash it again: that starts from the beginning"
	if damaged(e.Err) {
		return damagedHint + ", then " + again
	}
	return again
}

// Unwrap gives the cause.
func (e *UnfinishedError) Unwrap() error { return e.Err }

// Refused reports whether err is a RefusedError that holds the reason.
func Refused(err error, reason Reason) bool {
	var e *RefusedError
	if !errors.As(err, &e) {
		return false
	}
	return slices.ContainsFunc(e.Refusals, func(r Refusal) bool { return r.Reason == reason })
}
