package fat_test

import (
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

func Example() {
	var t tree.Tree
	if err := t.Add(tree.Node{Path: "EFI/BOOT/BOOTX64.EFI", Mode: 0o644, Content: tree.Bytes(make([]byte, 3<<20))}); err != nil {
		fmt.Println(err)
		return
	}
	m, err := fat.Plan(&t, fat.Options{Size: 64 << 20, Serial: 0x1234ABCD, Label: "SLOT", Epoch: 1752576245})
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := m.WriteTo(io.Discard)
	fmt.Println(n, m.ClusterSize(), m.Free(), err)
	// Output: 67108864 512 62908928 <nil>
}
