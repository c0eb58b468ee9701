package inspect

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/initramfs"
)

func readInitramfs(n *Node, r io.ReaderAt, size int64) error {
	t, info, err := initramfs.Open(r, size)
	if err != nil {
		return err
	}
	var first, last int64
	var packed []string
	for i, a := range info.Archives {
		if i == 0 || a.MinTime < first {
			first = a.MinTime
		}
		last = max(last, a.MaxTime)
		if !slices.Contains(packed, a.Compress) {
			packed = append(packed, a.Compress)
		}
	}
	n.add("compression", strings.Join(packed, ", "))
	n.add("times", times(first, last))
	for i, a := range info.Archives {
		key := fmt.Sprintf("archive %d", i+1)
		n.add(key, fmt.Sprintf("%d entries, %d bytes at %d", a.Entries, a.Size, a.Offset))
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
