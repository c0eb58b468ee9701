package partition_test

import (
	"fmt"

	"github.com/ingot-os/ingot/partition"
)

// The default sizes of an appliance without a root payload.
func Example() {
	l, err := partition.Plan(partition.Spec{Name: "hello", ESP: 128 << 20, Slot: 256 << 20, Data: 64 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(partition.Picture(l, 72))
	// Output:
	// esp128-slot256-state16 · 722 MiB · 512 B sectors
	// disk 9cf26027-b217-8d57-a4e9-14f1989a8b31
	// ┌───┬p1────────┬p2────────────┬p3────────────┬p6───────┬p7─────────┬───┐
	// │gpt│   esp    │    slot-a    │    slot-b    │  state  │   data    │gpt│
	// │1M │   128M   │     256M     │     256M     │   16M   │    64M    │1M │
	// └───┴──────────┴──────────────┴──────────────┴─────────┴───────────┴───┘
	// 0   1M         129M           385M           641M      657M        721M
	//   # name              start           bytes  guid
	//   1 esp             1048576       134217728  ed7445b2-a747-8c9f-b914-254a35eacb2b
	//   2 slot-a        135266304       268435456  5275d4b3-dd6b-8423-8675-9fad8241f15c
	//   3 slot-b        403701760       268435456  90468378-5792-8d56-b270-7ac112d1e559
	//   6 state         672137216        16777216  dd7ff2a9-8f33-8f73-acff-dcaa7718942c
	//   7 data          688914432        67108864  dfe0d092-bd53-8f76-a22a-ad10bbfbaa41
}
