package pe

// The on-disk structures, with the names of the specification ("PE Format",
// sections 2 to 4). All fields are little-endian.

// Sizes in bytes of the structures.
const (
	dosHeaderSize     = 64
	fileHeaderSize    = 20
	optional32Size    = 96 // without data directories
	optional64Size    = 112
	directorySize     = 8
	sectionHeaderSize = 40
)

// Values of the optional header's Magic.
const (
	magic32 = 0x10b
	magic64 = 0x20b
)

// Data directories by index.
const (
	dirCertificates = 4
	dirDebug        = 6
	maxDirectories  = 16
)

// Offsets of fields inside the COFF header that the writer patches.
const (
	offNumberOfSections     = 2
	offTimeDateStamp        = 4
	offPointerToSymbolTable = 8
	offNumberOfSymbols      = 12
)

// Offsets inside the optional header; the same for PE32 and PE32+.
const (
	offSizeOfInitializedData = 8
	offSizeOfImage           = 56
	offSizeOfHeaders         = 60
	offCheckSum              = 64
	offSubsystem             = 68
)

// offPointerToRawData is inside one entry of the section table.
const offPointerToRawData = 20

// readOnlyData is IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const readOnlyData uint32 = 0x40000040

// memWrite is IMAGE_SCN_MEM_WRITE.
const memWrite uint32 = 0x80000000

type fileHeader struct {
	Machine              uint16
	NumberOfSections     uint16
	TimeDateStamp        uint32
	PointerToSymbolTable uint32
	NumberOfSymbols      uint32
	SizeOfOptionalHeader uint16
	Characteristics      uint16
}

// optionalHead is the part of the optional header before ImageBase; PE32 has
// BaseOfData behind it.
type optionalHead struct {
	Magic                   uint16
	MajorLinkerVersion      uint8
	MinorLinkerVersion      uint8
	SizeOfCode              uint32
	SizeOfInitializedData   uint32
	SizeOfUninitializedData uint32
	AddressOfEntryPoint     uint32
	BaseOfCode              uint32
}

// optionalTail is the part behind ImageBase up to the first field whose size
// depends on Magic. It begins at offset 32 in both forms.
type optionalTail struct {
	SectionAlignment            uint32
	FileAlignment               uint32
	MajorOperatingSystemVersion uint16
	MinorOperatingSystemVersion uint16
	MajorImageVersion           uint16
	MinorImageVersion           uint16
	MajorSubsystemVersion       uint16
	MinorSubsystemVersion       uint16
	Win32VersionValue           uint32
	SizeOfImage                 uint32
	SizeOfHeaders               uint32
	CheckSum                    uint32
	Subsystem                   uint16
	DllCharacteristics          uint16
}

type sectionHeader struct {
	Name                 [8]byte
	VirtualSize          uint32
	VirtualAddress       uint32
	SizeOfRawData        uint32
	PointerToRawData     uint32
	PointerToRelocations uint32
	PointerToLinenumbers uint32
	NumberOfRelocations  uint16
	NumberOfLinenumbers  uint16
	Characteristics      uint32
}
