package squashfs_test

import (
	"fmt"
	"os"

	"github.com/ingot-os/ingot/partition/squashfs"
	"github.com/ingot-os/ingot/partition/tree"
)

func Example() {
	var t tree.Tree
	if err := t.Add(tree.Node{Path: "etc/motd", Mode: 0o644, Content: tree.Bytes("hello\n")}); err != nil {
		fmt.Println(err)
		return
	}
	f, err := os.CreateTemp("", "root")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.Remove(f.Name())
	size, err := squashfs.Write(f, &t, squashfs.Options{Epoch: 1752576245})
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := squashfs.Open(f, size)
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := v.Tree()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range got.Nodes() {
		fmt.Println(n.Mode, n.Path, n.Size())
	}
	// Output:
	// drwxr-xr-x . 0
	// drwxr-xr-x etc 0
	// -rw-r--r-- etc/motd 6
}
