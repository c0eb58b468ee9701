package recipe

import (
	"slices"

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
	}
}
