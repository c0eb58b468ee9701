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
	if err := addTree(n, t, false); err != nil {
		return err
	}
	return addHeaders(n, r, info)
}

// addHeaders adds what headers say beside the nodes, and what lies between
// contents. Inside of a zstd frame there are no places in the file.
func addHeaders(n *Node, r io.ReaderAt, info *initramfs.Info) error {
	byPath := map[string]*Node{}
	for _, c := range n.Children {
		byPath[c.Name] = c
	}
	packed := false
	for i, a := range info.Archives {
		if a.Compress == initramfs.None {
			continue
		}
		packed = true
		head := make([]byte, 6)
		if _, err := r.ReadAt(head, a.Offset); err != nil {
			return err
		}
		n.detail(fmt.Sprintf("zstd frame %d", i+1), fmt.Sprintf("%d bytes for %d, header %x", a.Size, a.Unpacked, head))
		n.region(a.Offset, a.Offset+a.Size, fmt.Sprintf("zstd frame %d", i+1))
	}
	for _, h := range info.Headers {
		n.order = append(n.order, h.Path)
		if !packed {
			n.region(h.Offset, h.NameEnd, "header of "+h.Path)
			n.region(h.NameEnd, h.Data, "padding after the name "+h.Path)
			n.region(h.DataEnd, (h.DataEnd+3)&^3, "padding after file "+h.Path)
		}
		if c := byPath[h.Path]; c != nil {
			if packed {
				c.off, c.end = 0, 0
			}
			c.detail("mtime", times(h.Time, h.Time))
			c.detail("inode", h.Inode)
		}
	}
	n.region(0, 1<<62, "padding between archives")
	return nil
}

func times(first, last int64) string {
	f := func(s int64) string { return time.Unix(s, 0).UTC().Format(time.RFC3339) }
	if first == last {
		return f(first)
	}
	return f(first) + " to " + f(last)
}
