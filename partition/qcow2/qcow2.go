// Package qcow2 writes and reads disks in QEMU's format, version 3 ("compat
// 1.1"), to docs/interop/qcow2.txt of QEMU: no backing file, no snapshots, no
// encryption, no compression. A cluster of zeros is not stored at all, so the
// file is about as large as the data.
//
// The file has no time and no id in it: the same disk gives the same bytes. It
// is laid out as header, clusters in the order of the disk, second-level
// tables, first-level table, reference counts.
//
//	size, err := qcow2.Write(f, blocks.Disk{R: img, Size: n})
//	img, err := qcow2.Open(f, size) // an io.ReaderAt of the disk
//
// There is no Go library to write the format: the ones there are only read it
// (lima-vm/go-qcow2reader) or work on a file by its path with holes filled in.
package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/ingot-os/ingot/partition/blocks"
)

// Magic begins every file of the format.
const Magic = "QFI\xfb"

const (
	clusterBits  = 16 // QEMU's default
	cluster      = 1 << clusterBits
	entries      = cluster / 8 // of a second-level table
	perBlock     = cluster / 2 // 16-bit counts of a refcount block
	refOrder     = 4           // counts have 1<<4 bits
	headerLength = 104
	copied       = 1 << 63 // the cluster's count is exactly one
	maxSize      = 1 << 50
)

// header is the start of the file, big endian; names as in the specification.
type header struct {
	Magic                 [4]byte
	Version               uint32
	BackingFileOffset     uint64
	BackingFileSize       uint32
	ClusterBits           uint32
	Size                  uint64
	CryptMethod           uint32
	L1Size                uint32
	L1TableOffset         uint64
	RefcountTableOffset   uint64
	RefcountTableClusters uint32
	NbSnapshots           uint32
	SnapshotsOffset       uint64
	IncompatibleFeatures  uint64
	CompatibleFeatures    uint64
	AutoclearFeatures     uint64
	RefcountOrder         uint32
	HeaderLength          uint32
}

// writer appends clusters.
type writer struct {
	w    io.WriterAt
	next uint64 // cluster
}

// Write writes the disk to w, which is empty, and returns the size of the file
// in bytes. The size of the disk is a multiple of 512.
func Write(w io.WriterAt, d blocks.Disk) (int64, error) {
	if d.Size <= 0 || d.Size%512 != 0 || d.Size > maxSize {
		return 0, fmt.Errorf("write qcow2: disk of %d bytes is not a multiple of 512 up to 1 PiB", d.Size)
	}
	out := &writer{w: w, next: 1} // cluster 0 is the header
	tables := map[int64][]uint64{}
	err := d.Each(cluster, func(i int64, b []byte) error {
		if tables[i/entries] == nil {
			tables[i/entries] = make([]uint64, entries)
		}
		at, err := out.put(b)
		tables[i/entries][i%entries] = at | copied
		return err
	})
	if err == nil {
		err = out.finish(d.Size, tables)
	}
	if err != nil {
		return 0, fmt.Errorf("write qcow2: %w", err)
	}
	return int64(out.next) * cluster, nil
}

// put writes one or more whole clusters and returns their place.
func (o *writer) put(b []byte) (uint64, error) {
	at := o.next * cluster
	o.next += uint64(len(b) / cluster)
	_, err := o.w.WriteAt(b, int64(at))
	return at, err
}

// finish writes the tables and, last, the header: a file that was not finished
// is none.
func (o *writer) finish(size int64, tables map[int64][]uint64) error {
	const span = cluster * entries // of one second-level table
	first := make([]uint64, (size+span-1)/span)
	var err error
	for i := range first {
		if t := tables[int64(i)]; t != nil {
			if first[i], err = o.put(encode(t)); err != nil {
				return err
			}
			first[i] |= copied
		}
	}
	h := header{
		Magic: [4]byte([]byte(Magic)), Version: 3, ClusterBits: clusterBits, Size: uint64(size),
		L1Size: uint32(len(first)), RefcountOrder: refOrder, HeaderLength: headerLength,
	}
	if h.L1TableOffset, err = o.put(encode(first)); err != nil {
		return err
	}
	if err := o.refcounts(&h); err != nil {
		return err
	}
	var b bytes.Buffer
	binary.Write(&b, binary.BigEndian, h)
	_, err = o.w.WriteAt(append(b.Bytes(), make([]byte, cluster-b.Len())...), 0)
	return err
}

// refcounts counts every cluster once, those of the counts included.
func (o *writer) refcounts(h *header) error {
	counts, table := uint64(0), uint64(0)
	for {
		total := o.next + counts + table
		c := (total + perBlock - 1) / perBlock
		t := (c*8 + cluster - 1) / cluster
		if c == counts && t == table {
			break
		}
		counts, table = c, t
	}
	left := o.next + counts + table
	places := make([]uint64, counts)
	for i := range places {
		b := make([]byte, cluster)
		for j := range min(left, perBlock) {
			b[2*j+1] = 1
		}
		left -= min(left, perBlock)
		var err error
		if places[i], err = o.put(b); err != nil {
			return err
		}
	}
	var err error
	h.RefcountTableClusters = uint32(table)
	h.RefcountTableOffset, err = o.put(encode(places))
	return err
}

// encode gives a table in whole clusters.
func encode(table []uint64) []byte {
	b := make([]byte, (len(table)*8+cluster-1)/cluster*cluster)
	for i, v := range table {
		binary.BigEndian.PutUint64(b[8*i:], v)
	}
	return slices.Clip(b)
}
