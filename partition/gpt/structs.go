package gpt

// header is the GPT header, UEFI table 5.5.
type header struct {
	Signature   [8]byte
	Revision    uint32
	HeaderSize  uint32
	CRC         uint32 // of HeaderSize bytes with this field zero
	Reserved    uint32
	MyLBA       uint64
	Alternate   uint64 // LBA of the other copy
	FirstUsable uint64
	LastUsable  uint64
	Disk        GUID
	EntriesLBA  uint64
	Entries     uint32
	EntrySize   uint32
	EntriesCRC  uint32
}

// entry is a partition entry, UEFI table 5.6.
type entry struct {
	Type, GUID  GUID
	First, Last uint64 // LBA, both inclusive
	Attributes  uint64
	Name        [MaxName]uint16
}
