package efivar

import (
	"fmt"
)

// Attribute bits of a load option (UEFI 2.10 section 3.1.3).
const (
	Active uint32 = 1 << 0 // the boot manager tries it by itself
	Hidden uint32 = 1 << 3 // not shown in the firmware's menu
)

// LoadOption is an EFI_LOAD_OPTION, the value of a Boot#### variable.
type LoadOption struct {
	Attributes  uint32
	Description string
	// Paths is the file path list. The first is what is loaded; the meaning of
	// others is the vendor's.
	Paths    []DevicePath
	Optional []byte // handed to the program; a UKI takes it as a command line
}

// Path returns the first path of the list, or nil.
func (o LoadOption) Path() DevicePath {
	if len(o.Paths) == 0 {
		return nil
	}
	return o.Paths[0]
}

// String is the entry on one line: title, path, and "inactive" where so.
func (o LoadOption) String() string {
	s := o.Description + " " + o.Path().String()
	if o.Attributes&Active == 0 {
		s += " (inactive)"
	}
	return s
}

// loadOptionHeaderSize is Attributes and FilePathListLength, which are packed.
const loadOptionHeaderSize = 6

// ParseLoadOption decodes the value of a Boot#### variable.
func ParseLoadOption(b []byte) (LoadOption, error) {
	if len(b) < loadOptionHeaderSize {
		return LoadOption{}, formatf(0, "EFI_LOAD_OPTION", "%d bytes are less than %d", len(b), loadOptionHeaderSize)
	}
	o := LoadOption{Attributes: le.Uint32(b)}
	listLen := int(le.Uint16(b[4:]))
	title, n, err := cutText(b[loadOptionHeaderSize:])
	if err != nil {
		return LoadOption{}, formatf(loadOptionHeaderSize, "Description", "%v", err)
	}
	o.Description = title
	at := loadOptionHeaderSize + n
	if listLen > len(b)-at {
		return LoadOption{}, formatf(4, "FilePathListLength", "%d is more than the %d bytes left", listLen, len(b)-at)
	}
	for end := at + listLen; at < end; {
		p, n, err := ParseDevicePath(b[at:end])
		if fe, ok := err.(*FormatError); ok {
			return LoadOption{}, formatf(at+int(fe.Off), "FilePathList: "+fe.Field, "%s", fe.Msg)
		}
		o.Paths, at = append(o.Paths, p), at+n
	}
	if at < len(b) {
		o.Optional = b[at:]
	}
	return o, nil
}

// MarshalBinary encodes the option. It fails when a path is longer than its
// 16-bit length field allows.
func (o LoadOption) MarshalBinary() ([]byte, error) {
	var list []byte
	for _, p := range o.Paths {
		var err error
		if list, err = p.AppendBinary(list); err != nil {
			return nil, fmt.Errorf("encode boot option %q: %w", o.Description, err)
		}
	}
	if len(list) > 0xffff {
		return nil, fmt.Errorf("encode boot option %q: device paths of %d bytes are more than %d", o.Description, len(list), 0xffff)
	}
	b := le.AppendUint32(nil, o.Attributes)
	b = le.AppendUint16(b, uint16(len(list)))
	b = appendText(b, o.Description)
	b = append(b, list...)
	return append(b, o.Optional...), nil
}

// SlotEntry is the boot option that starts a file from a partition, by the
// short form of the path: partition and file, without the hardware in front,
// so that the disk may be moved to another port (section 3.1.2). An empty
// optional keeps the command line inside the UKI: with Secure Boot off, the
// stub takes optional data as the command line instead of its own.
func SlotEntry(part HDPartition, file, title string, optional []byte) LoadOption {
	return LoadOption{Attributes: Active, Description: title, Paths: []DevicePath{{part.Node(), FileNode(file)}}, Optional: optional}
}
