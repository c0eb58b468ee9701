package inspect

import (
	"fmt"
	"io"
	"time"

	"github.com/ingot-os/ingot/initramfs"
)

func readInitramfs(n *Node, r io.ReaderAt, size int64) error {
	t, info, err := initramfs.Open(r, size)
	if err != nil {
		return err
	}
	for i, a := range info.Archives {
		key := fmt.Sprintf("archive %d", i+1)
		n.add(key, fmt.Sprintf("%s, %d entries, %d bytes at %d, times %s", a.Compress, a.Entries, a.Size, a.Offset, times(a.MinTime, a.MaxTime)))
		if a.Descending != "" {
			n.add(key+" order", "not sorted: "+a.Descending)
		}
	}
	return addTree(n, t, false)
}

func times(first, last int64) string {
	f := func(s int64) string { return time.Unix(s, 0).UTC().Format(time.RFC3339) }
	if first == last {
		return f(first)
	}
	return f(first) + " to " + f(last)
}
