package efivar

import (
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/partition/gpt"
)

// DevicePath is one device path without its final end node (UEFI 2.10 section 10.3).
type DevicePath []Node

// Node is one node of a device path.
type Node struct {
	Type, SubType uint8
	Data          []byte // behind the four bytes of type, subtype and length
}

// Types and subtypes of the nodes that are decoded.
const (
	typeHardware = 0x01
	subPCI       = 0x01
	typeACPI     = 0x02
	subACPI      = 0x01
	typeMessage  = 0x03
	subMAC       = 0x0b
	subIPv4      = 0x0c
	subIPv6      = 0x0d
	subURI       = 0x18
	typeMedia    = 0x04
	subHardDrive = 0x01
	subFilePath  = 0x04
	typeEnd      = 0x7f
	subEndAll    = 0xff
)

// Sizes in bytes of nodes, with their header.
const (
	nodeHeaderSize = 4
	hardDriveSize  = 42 // section 10.3.5.1
)

// Values in a hard drive node.
const (
	formatGPT     = 2
	signatureGUID = 2
)

// HDPartition is a partition of a GPT disk, as a hard drive node names it.
type HDPartition struct {
	Number uint32   `json:"number"` // index in the partition table, from 1
	Start  uint64   `json:"start"`  // first block, in logical sectors of the device
	Size   uint64   `json:"size"`   // in logical sectors of the device
	GUID   gpt.GUID `json:"guid"`   // the partition's own, not its type
}

// Node encodes the partition (section 10.3.5.1, table 10.49).
func (p HDPartition) Node() Node {
	d := make([]byte, 0, hardDriveSize-nodeHeaderSize)
	d = le.AppendUint32(d, p.Number)
	d = le.AppendUint64(d, p.Start)
	d = le.AppendUint64(d, p.Size)
	d = append(d, p.GUID[:]...)
	return Node{Type: typeMedia, SubType: subHardDrive, Data: append(d, formatGPT, signatureGUID)}
}

// Partition decodes a hard drive node of a GPT disk.
func (n Node) Partition() (HDPartition, bool) {
	d := n.Data
	if n.Type != typeMedia || n.SubType != subHardDrive || len(d) != hardDriveSize-nodeHeaderSize || d[36] != formatGPT || d[37] != signatureGUID {
		return HDPartition{}, false
	}
	return HDPartition{Number: le.Uint32(d), Start: le.Uint64(d[4:]), Size: le.Uint64(d[12:]), GUID: gpt.GUID(d[20:36])}, true
}

// FileNode encodes the path of a file (section 10.3.5.4). Slashes become
// backslashes and the path is made absolute.
func FileNode(path string) Node {
	path = strings.ReplaceAll(path, "/", `\`)
	if !strings.HasPrefix(path, `\`) {
		path = `\` + path
	}
	return Node{Type: typeMedia, SubType: subFilePath, Data: appendText(nil, path)}
}

// File decodes the path of a file, with backslashes.
func (n Node) File() (string, bool) {
	if n.Type != typeMedia || n.SubType != subFilePath {
		return "", false
	}
	s, _, err := cutText(n.Data)
	return s, err == nil
}

// Partition returns the first GPT partition of the path.
func (p DevicePath) Partition() (HDPartition, bool) {
	for _, n := range p {
		if hd, ok := n.Partition(); ok {
			return hd, true
		}
	}
	return HDPartition{}, false
}

// IsNetwork reports whether the path leads to the network: over a card's address
// (section 10.3.4.11), IP (10.3.4.12, 10.3.4.13) or to a URI (10.3.4.22).
func (p DevicePath) IsNetwork() bool {
	for _, n := range p {
		if n.Type != typeMessage {
			continue
		}
		switch n.SubType {
		case subMAC, subIPv4, subIPv6, subURI:
			return true
		}
	}
	return false
}

// File returns the file paths of the path joined, with backslashes; "" for none.
func (p DevicePath) File() string {
	var out string
	for _, n := range p {
		if s, ok := n.File(); ok {
			out += s
		}
	}
	return out
}

// ParseDevicePath decodes one path that ends with its end node, and returns
// the number of bytes it took.
func ParseDevicePath(b []byte) (DevicePath, int, error) {
	var p DevicePath
	for off := 0; ; {
		if len(b)-off < nodeHeaderSize {
			return nil, 0, formatf(off, "device path node", "no end node in %d bytes", len(b))
		}
		size := int(le.Uint16(b[off+2:]))
		if size < nodeHeaderSize || size > len(b)-off {
			return nil, 0, formatf(off+2, "Length", "%d is not within %d..%d", size, nodeHeaderSize, len(b)-off)
		}
		n := Node{Type: b[off], SubType: b[off+1], Data: b[off+nodeHeaderSize : off+size]}
		off += size
		if n.Type == typeEnd && n.SubType == subEndAll {
			return p, off, nil
		}
		p = append(p, n)
	}
}

// AppendBinary appends the encoded path and its end node.
func (p DevicePath) AppendBinary(b []byte) ([]byte, error) {
	for _, n := range append(p[:len(p):len(p)], Node{Type: typeEnd, SubType: subEndAll}) {
		size := nodeHeaderSize + len(n.Data)
		if size > 0xffff {
			return nil, fmt.Errorf("encode device path node: %d bytes are more than %d", size, 0xffff)
		}
		b = append(b, n.Type, n.SubType)
		b = le.AppendUint16(b, uint16(size))
		b = append(b, n.Data...)
	}
	return b, nil
}

// String gives the text form of section 10.6 as EDK2 prints it; nodes without
// a form here are Path(type,subtype,data).
func (p DevicePath) String() string {
	texts := make([]string, len(p))
	for i, n := range p {
		texts[i] = n.String()
	}
	return strings.Join(texts, "/")
}

// acpiPciRoot is the EISA id PNP0A03 as an ACPI node holds it.
const acpiPciRoot = 0x0a0341d0

// String gives the text form of one node.
func (n Node) String() string {
	if hd, ok := n.Partition(); ok {
		return fmt.Sprintf("HD(%d,GPT,%s,0x%X,0x%X)", hd.Number, strings.ToUpper(hd.GUID.String()), hd.Start, hd.Size)
	}
	if s, ok := n.File(); ok {
		return s
	}
	switch {
	case n.Type == typeHardware && n.SubType == subPCI && len(n.Data) == 2:
		return fmt.Sprintf("Pci(0x%X,0x%X)", n.Data[1], n.Data[0])
	case n.Type == typeACPI && n.SubType == subACPI && len(n.Data) == 8 && le.Uint32(n.Data) == acpiPciRoot:
		return fmt.Sprintf("PciRoot(0x%X)", le.Uint32(n.Data[4:]))
	}
	return fmt.Sprintf("Path(%d,%d,%X)", n.Type, n.SubType, n.Data)
}
