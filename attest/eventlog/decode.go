package eventlog

import (
	"bytes"
	"unicode/utf16"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Sizes in bytes of what is decoded.
const (
	variableHeadSize = 32  // UEFI_VARIABLE_DATA up to UnicodeName (PFP section 10.2.6)
	imageHeadSize    = 32  // UEFI_IMAGE_LOAD_EVENT up to DevicePath (section 10.2.3)
	gptHeadSize      = 92  // EFI_PARTITION_TABLE_HEADER (UEFI 2.10 section 5.3.2)
	gptEntrySize     = 128 // as EDK2 logs them, whatever the table says
	tagHeadSize      = 8   // TCG_PCClientTaggedEvent (section 10.2.7)
	ownerSize        = 16  // EFI_SIGNATURE_DATA up to the data
)

// dataf is a FormatError about the event field.
func (e *Event) dataf(at int, field, format string, args ...any) error {
	head := sha1HeadSize
	if e.log != nil && e.log.Agile && e.Off > 0 {
		head = agileHeadSize + len(e.digests) + 4
	}
	return formatf(int(e.Off)+head+at, field, format, args...)
}

// Variable is the data of EV_EFI_VARIABLE_* events.
type Variable struct {
	GUID gpt.GUID
	Name string
	Data []byte // for VariableAuthority one EFI_SIGNATURE_DATA; shares memory with the log
}

// Variable decodes a UEFI_VARIABLE_DATA.
func (e *Event) Variable() (v Variable, err error) {
	name, data, err := e.variable()
	if err != nil {
		return v, err
	}
	return Variable{GUID: gpt.GUID(e.Data[:16]), Name: text16(name), Data: data}, nil
}

// variable finds name and content.
func (e *Event) variable() (name, data []byte, err error) {
	d := e.Data
	if len(d) < variableHeadSize {
		return nil, nil, e.dataf(0, "UEFI_VARIABLE_DATA", "truncated: %d bytes", len(d))
	}
	names, size, rest := le.Uint64(d[16:]), le.Uint64(d[24:]), uint64(len(d)-variableHeadSize)
	switch {
	case names > rest/2:
		return nil, nil, e.dataf(16, "UnicodeNameLength", "%d characters in %d bytes", names, rest)
	case size > rest-2*names:
		return nil, nil, e.dataf(24, "VariableDataLength", "%d bytes, the event has %d", size, rest-2*names)
	}
	at := variableHeadSize + int(2*names)
	return d[variableHeadSize:at], d[at : at+int(size)], nil
}

// Authority is the entry of the db by which an image was accepted.
type Authority struct {
	Owner       gpt.GUID
	Certificate []byte // DER, or the digest of the image; shares memory with the log
}

// Authority decodes the data of an EV_EFI_VARIABLE_AUTHORITY about a key
// variable: an EFI_SIGNATURE_DATA (UEFI 2.10 section 32.4.1). Those of shim
// (SbatLevel, MokList) are none.
func (v Variable) Authority() (Authority, bool) {
	if len(v.Data) <= ownerSize || v.GUID != efivar.ImageSecurity {
		return Authority{}, false
	}
	return Authority{Owner: gpt.GUID(v.Data[:ownerSize]), Certificate: v.Data[ownerSize:]}, true
}

// Image is the data of EV_EFI_BOOT_SERVICES_APPLICATION and the like. The
// event's digest covers none of it: it is the image's Authenticode digest.
type Image struct {
	Base, Length, LinkBase uint64 // where firmware loaded it, its length in bytes
	Path                   efivar.DevicePath
}

// Image decodes a UEFI_IMAGE_LOAD_EVENT.
func (e *Event) Image() (m Image, err error) {
	d := e.Data
	if len(d) < imageHeadSize {
		return m, e.dataf(0, "UEFI_IMAGE_LOAD_EVENT", "truncated: %d bytes", len(d))
	}
	m = Image{Base: le.Uint64(d), Length: le.Uint64(d[8:]), LinkBase: le.Uint64(d[16:])}
	size := le.Uint64(d[24:])
	if size > uint64(len(d)-imageHeadSize) {
		return m, e.dataf(24, "LengthOfDevicePath", "%d bytes, the event has %d", size, len(d)-imageHeadSize)
	}
	if size == 0 { // option ROMs and images from memory
		return m, nil
	}
	if m.Path, _, err = efivar.ParseDevicePath(d[imageHeadSize : imageHeadSize+int(size)]); err != nil {
		return m, e.dataf(imageHeadSize, "DevicePath", "%v", err)
	}
	return m, nil
}

// Table is the data of EV_EFI_GPT_EVENT: the header of the partition table and
// its used entries. The event's digest covers all of it.
type Table struct {
	Header     []byte   // 92 bytes as on the disk; shares memory with the log
	Disk       gpt.GUID // from the header
	Partitions []TableEntry
}

// TableEntry is one partition of a Table; positions are in logical sectors.
type TableEntry struct {
	Type, GUID  gpt.GUID
	First, Last uint64 // LBA, both inclusive
	Attributes  uint64
	Name        string
}

// Table decodes a UEFI_GPT_DATA (PFP section 10.2.5).
func (e *Event) Table() (t Table, err error) {
	d := e.Data
	if len(d) < gptHeadSize+8 || string(d[:8]) != "EFI PART" {
		return t, e.dataf(0, "UEFI_GPT_DATA", "no partition table header")
	}
	n, rest := le.Uint64(d[gptHeadSize:]), d[gptHeadSize+8:]
	if n > uint64(len(rest)/gptEntrySize) || int(n)*gptEntrySize != len(rest) {
		return t, e.dataf(gptHeadSize, "NumberOfPartitions", "%d in %d bytes", n, len(rest))
	}
	t = Table{Header: d[:gptHeadSize], Disk: gpt.GUID(d[56:72])}
	for p := range int(n) {
		b := rest[p*gptEntrySize:]
		t.Partitions = append(t.Partitions, TableEntry{Type: gpt.GUID(b[:16]), GUID: gpt.GUID(b[16:32]),
			First: le.Uint64(b[32:]), Last: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:]), Name: text16(b[56:gptEntrySize])})
	}
	return t, nil
}

// Values of a separator (PFP section 10.4.1, EV_SEPARATOR).
const (
	SeparatorOK    uint32 = 0x00000000
	SeparatorOnes  uint32 = 0xffffffff // as good
	SeparatorError uint32 = 0x00000001 // firmware reports an error
)

// Separator decodes the four bytes of an EV_SEPARATOR.
func (e *Event) Separator() (uint32, error) {
	if len(e.Data) != 4 {
		return 0, e.dataf(0, "EV_SEPARATOR", "%d bytes, want 4", len(e.Data))
	}
	return le.Uint32(e.Data), nil
}

// Tags of EV_EVENT_TAG events.
const (
	TagLoadOptions uint32 = 0x8f3b22ed // Linux: the command line, UTF-16 with its NUL
	TagInitrd      uint32 = 0x8f3b22ec // Linux: the whole initrd
	TagLoaderConf  uint32 = 0xf5bc582a // systemd-boot: loader.conf
)

// Tag is the data of an EV_EVENT_TAG.
type Tag struct {
	ID   uint32
	Data []byte // shares memory with the log
}

// Tag decodes the first TCG_PCClientTaggedEvent of the event.
func (e *Event) Tag() (t Tag, err error) {
	if len(e.Data) < tagHeadSize {
		return t, e.dataf(0, "TCG_PCClientTaggedEvent", "truncated: %d bytes", len(e.Data))
	}
	size := le.Uint32(e.Data[4:])
	if uint64(size) > uint64(len(e.Data)-tagHeadSize) {
		return t, e.dataf(4, "taggedEventDataSize", "%d bytes, the event has %d", size, len(e.Data)-tagHeadSize)
	}
	return Tag{ID: le.Uint32(e.Data), Data: e.Data[tagHeadSize : tagHeadSize+int(size)]}, nil
}

// Text is the data as a text: UTF-16 as systemd's programs write it into
// EV_IPL, else bytes; in both cases up to the first NUL.
func (e *Event) Text() string {
	if d := e.Data; len(d) >= 4 && len(d)%2 == 0 && d[1] == 0 && le.Uint16(d[len(d)-2:]) == 0 {
		return text16(d)
	}
	b, _, _ := bytes.Cut(e.Data, []byte{0})
	return string(b)
}

func text16(b []byte) string {
	n, ascii := 0, true
	for ; 2*n+1 < len(b); n++ {
		u := le.Uint16(b[2*n:])
		if u == 0 {
			break
		}
		ascii = ascii && u < 0x80
	}
	var short [64]byte // what names of variables and sections fit into
	if ascii && n <= len(short) {
		for i := range n {
			short[i] = b[2*i]
		}
		return string(short[:n])
	}
	units := make([]uint16, n)
	for i := range units {
		units[i] = le.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// Coverage says what an event's digest says about its data.
type Coverage int

// The kinds of coverage.
const (
	NotCovered Coverage = iota // the digest is of something that is not in the log
	Covered                    // the digest is of the data
	Altered                    // the digest should be of the data and is not
)

// Covered says whether the digest of a bank is that of the data, for the types
// where the specification wants it. Of boot variables firmware measures the
// variable's content alone or the whole structure (EDK2 before and after 2021).
func (e *Event) Covered(bank pcr.Bank) Coverage {
	d := e.Digest(bank)
	if d == nil {
		return NotCovered
	}
	switch e.Type {
	case VariableBoot, VariableBoot2:
		if _, v, err := e.variable(); err == nil && bank.Is(d, v) {
			return Covered
		}
	case VariableAuthority:
		// shim measures its lists under this type, too, by digests of its own.
		if _, _, err := e.variable(); err == nil && gpt.GUID(e.Data[:16]) != efivar.ImageSecurity {
			return NotCovered
		}
	case VariableDriver, GPT, Separator, EFIAction, OmitBootDevices:
	default:
		return NotCovered
	}
	if bank.Is(d, e.Data) {
		return Covered
	}
	return Altered
}
