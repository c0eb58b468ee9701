// Package assign decides which release a host is offered. It is a pure
// function of what is known: the host, what an operator assigned to it, the
// releases that there are, and what the host says about its slots. A rollout by
// percentage is another source of assignments, with the same decision behind it.
//
//	r, refusal := assign.Decide(host, assignment, catalog)
//
// A release is offered to a host that is trusted now, when it is one of the
// catalog, of the appliance, architecture and disk layout that the host runs,
// not below the host's floor, and not one that the host has rejected or was
// taken back from by hand. Only the last an operator may override, once: what
// fails again is not offered again.
package assign

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// Assignment is a release for a host, as an operator decided it.
type Assignment struct {
	Release  string    `json:"release"` // SHA-256 of its manifest, in hex
	Version  string    `json:"version"` // of it, for people
	Approved bool      `json:"approved"`
	Override bool      `json:"override"` // although the host has rejected it; ends when the host takes it
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// Release is a release of the catalog.
type Release struct {
	Digest  string `json:"digest"` // SHA-256 of its manifest, in hex
	Name    string `json:"name"`   // of the appliance
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Layout  string `json:"layout"` // id of the disk layout
	Epoch   int64  `json:"securityEpoch"`
	Slot    string `json:"slot"` // SHA-256 of its slot, in hex
}

// Host is a host as it is known now.
type Host struct {
	Name    string
	Trusted bool // its newest verdict, and not too long ago
	// Appliance, Arch and Layout are those of the release that it was last seen
	// to run; empty: not known.
	Appliance, Arch, Layout string
	// Floor is the lowest security epoch that it may run: registered by an
	// operator, or proven by the counter in its TPM.
	Floor int64
	// Counted says that the TPM proves the floor: then what the host reports of
	// it counts for nothing.
	Counted bool
	Report  *updateapi.Slots // nil: there is none
}

// Codes of refusals that are not updateapi's.
const (
	Nothing   = "assignment.none"    // no release is assigned
	Untrusted = "assignment.host"    // the host is not trusted now
	Missing   = "assignment.release" // the catalog has no such release
	Unusable  = "release.image"      // the release's files are not there, or not those of its manifest
)

// Refusal says why a release is not offered.
type Refusal struct {
	Code   string `json:"code"` // one of the constants, or of updateapi
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Error implements error.
func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

// Decide gives the release that a host is offered, or why there is none. Nil
// for a says that nothing is assigned.
func Decide(h Host, a *Assignment, catalog []Release) (Release, *Refusal) {
	if a == nil {
		return Release{}, &Refusal{Nothing, "no release is assigned to " + h.Name, "ingot hosts " + h.Name + " --assign VERSION"}
	}
	if !h.Trusted {
		return Release{}, &Refusal{Untrusted, h.Name + " is not trusted now", "ingot hosts " + h.Name + " says why"}
	}
	i := slices.IndexFunc(catalog, func(r Release) bool { return r.Digest == a.Release })
	if i < 0 {
		return Release{}, &Refusal{Missing, fmt.Sprintf("release %s (%s) is not among the server's releases any more", a.Version, short(a.Release)), "ingot hosts lists why a release is refused; --assign names another"}
	}
	if r := Fits(h, catalog[i]); r != nil {
		return Release{}, r
	}
	if r := Sticks(h, catalog[i]); r != nil && !a.Override {
		return Release{}, r
	}
	return catalog[i], nil
}

// Fits says why a host cannot run a release; nil when it can.
func Fits(h Host, r Release) *Refusal {
	for _, x := range []struct{ what, host, release string }{{"appliance", h.Appliance, r.Name}, {"architecture", h.Arch, r.Arch}, {"disk layout", h.Layout, r.Layout}} {
		if x.host != "" && x.host != x.release {
			return &Refusal{updateapi.Mismatched, fmt.Sprintf("%s %s has the %s %q, and %s runs %q", r.Name, r.Version, x.what, x.release, h.Name, x.host), "assign a release of what the host runs"}
		}
	}
	if floor := h.floor(); r.Epoch < floor {
		return &Refusal{updateapi.BelowFloor, fmt.Sprintf("%s %s has security epoch %d, and the floor of %s is %d", r.Name, r.Version, r.Epoch, h.Name, floor), "a floor is not lowered: build the version with a higher securityEpoch"}
	}
	return nil
}

// floor is what the TPM proves; without that the higher of what an operator
// registered and the host reports, because it refuses what is below its own.
func (h *Host) floor() int64 {
	if h.Report == nil || h.Counted {
		return h.Floor
	}
	return max(h.Floor, int64(h.Report.Floor))
}

// Sticks says that a host has rejected a version, or was taken back from it;
// nil when it has not.
func Sticks(h Host, r Release) *Refusal {
	if h.Report == nil {
		return nil
	}
	i := slices.IndexFunc(h.Report.Rejected, func(x updateapi.Rejected) bool { return x.Version == r.Version })
	if i < 0 {
		return nil
	}
	return &Refusal{updateapi.IsRejected, fmt.Sprintf("%s has rejected %s %s: %s", h.Name, r.Name, r.Version, h.Report.Rejected[i].Cause), "ingot hosts " + h.Name + " --assign " + r.Version + " --override offers it once more"}
}

// Taken reports whether a host has taken the release that an operator assigned
// to it once more: then the override has done what it is for, and what fails
// again is not offered again.
func Taken(a Assignment, r Release, s *updateapi.Slots) bool {
	if !a.Override || s.Candidate == "" && s.Good == "" {
		return false
	}
	rejected := slices.ContainsFunc(s.Rejected, func(x updateapi.Rejected) bool { return x.Version == r.Version })
	return !rejected && slices.ContainsFunc(s.Slots, func(x updateapi.Slot) bool {
		return (x.Name == s.Candidate || x.Name == s.Good) && x.Image == r.Slot && x.Image != ""
	})
}

// minPrefix is how many digits of a digest name a release.
const minPrefix = 8

// Find gives the release that an operator names to a host by its version, its
// digest, or at least eight first digits of that.
func Find(h Host, name string, catalog []Release) (Release, *Refusal) {
	var found []Release
	for _, r := range catalog {
		digest := len(name) >= minPrefix && strings.HasPrefix(r.Digest, strings.ToLower(name))
		version := r.Version == name && (h.Appliance == "" || h.Appliance == r.Name) && (h.Arch == "" || h.Arch == r.Arch)
		if digest || version {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return Release{}, &Refusal{Missing, fmt.Sprintf("the server has no release %.80q%s", name, of(h)), has(h, catalog)}
	}
	var list []string
	for _, r := range found {
		list = append(list, fmt.Sprintf("%s %s %s %s", r.Name, r.Version, r.Arch, short(r.Digest)))
	}
	return Release{}, &Refusal{Missing, fmt.Sprintf("%d releases have the name %.80q: %s", len(found), name, strings.Join(list, ", ")), "name it by its digest"}
}

func of(h Host) string {
	if h.Appliance == "" {
		return ""
	}
	return fmt.Sprintf(" of %s, which %s runs", h.Appliance, h.Name)
}

// has lists what may be assigned.
func has(h Host, catalog []Release) string {
	var list []string
	for _, r := range catalog {
		if h.Appliance == "" || h.Appliance == r.Name {
			list = append(list, r.Version)
		}
	}
	switch n := len(list); {
	case n == 0:
		return "start the server with --release DIR, where the new release is"
	case n > maxListed:
		list = append(list[n-maxListed:n:n], fmt.Sprintf("and %d more", n-maxListed))
	}
	return "there are: " + strings.Join(list, ", ")
}

// maxListed bounds the versions in a hint.
const maxListed = 8

func short(digest string) string { return digest[:min(12, len(digest))] }
