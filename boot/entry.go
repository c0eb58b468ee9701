package boot

import (
	"strings"

	"github.com/ingot-os/ingot/boot/efivar"
)

// SlotOption returns the boot entry of a slot. The title names appliance and
// slot and the path is the same for every release, so an update never changes
// an entry (DESIGN S2).
func SlotOption(arch, name, role string, part efivar.HDPartition) efivar.LoadOption {
	return efivar.SlotEntry(part, strings.ReplaceAll(FallbackPath(arch), "/", `\`), name+" "+role, nil)
}

// ESPOptions returns the boot entries behind those of the slots: the selector's
// spare copy, which starts when no slot does and needs nothing of the primary one,
// then the recipe's programs. Where these have the spare copy under a title of
// their own, that one entry is enough.
func ESPOptions(arch, name string, esp efivar.HDPartition, programs []efivar.LoadOption) []efivar.LoadOption {
	spare := efivar.SlotEntry(esp, strings.ReplaceAll(SparePath(arch), "/", `\`), name+" spare", nil)
	for _, o := range programs {
		if strings.EqualFold(o.Path().File(), spare.Path().File()) {
			return programs
		}
	}
	return append([]efivar.LoadOption{spare}, programs...)
}
