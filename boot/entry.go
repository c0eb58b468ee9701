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
