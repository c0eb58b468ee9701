package recipe

import (
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
)

// Spec returns the part of a recipe that the machine itself acts on. Build,
// Layout, Root and Epoch are the builder's to fill. The modules are those
// given by their own name, in order: groups load by coldplug.
func Spec(r *Recipe) appliance.Spec {
	return appliance.Spec{
		Format: 1, Name: r.Name, Version: r.Version, Arch: r.Arch,
		Modules:    slices.DeleteFunc(slices.Clone(r.Modules), IsGroup),
		Network:    r.Network,
		NTP:        r.NTP,
		Services:   r.Services,
		Smoke:      r.Smoke,
		Users:      r.Users,
		Data:       r.Data.Data,
		Management: r.Management,
		Boot:       bootSpec(r.Boot),
		Attest:     r.Attest,
		Update:     r.Update,
		Netboot:    r.Netboot,
		Install:    installSpec(r.Install),

		SecurityEpoch: r.SecurityEpoch,
	}
}

func installSpec(i *Install) *appliance.Install {
	if i == nil {
		return nil
	}
	to := appliance.Target{Path: i.To.Path, Serial: i.To.Serial, Model: i.To.Model, MinSize: int64(i.To.MinSize), MaxSize: int64(i.To.MaxSize)}
	return &appliance.Install{To: to, Wipe: i.Wipe}
}

func bootSpec(b Boot) appliance.Boot {
	out := appliance.Boot{Loader: b.Loader, Policy: b.Policy, Timeout: b.Timeout}
	for _, e := range b.Entries {
		out.Entries = append(out.Entries, appliance.BootEntry{Title: e.Title, EFI: strings.ReplaceAll(e.EFI, "/", `\`)})
	}
	return out
}
