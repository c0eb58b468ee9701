package varstore

import (
	"bytes"
	"encoding/binary"
)

// Open reads the variables of an image. The image must not change while the
// Store is in use. Errors are *FormatError.
func Open(image []byte) (*Store, error) {
	if isBlank(image) {
		image = append(blankArmVirt(len(image)), image[armVirtVolume:]...)
	}
	s := &Store{image: image}
	at, volumeEnd, err := readVolume(image)
	if err != nil {
		return nil, err
	}
	var h storeHeader
	if _, err := binary.Decode(image[at:volumeEnd], le, &h); err != nil {
		return nil, formatf(at, "VARIABLE_STORE_HEADER", "truncated at %d bytes", volumeEnd)
	}
	switch {
	case h.Signature == plainStore:
		return nil, formatf(at, "Signature", "variables are not of the authenticated form")
	case h.Signature != authenticatedStore:
		return nil, formatf(at, "Signature", "%v is not a variable store", h.Signature)
	case h.Format != storeFormatted || h.State != storeHealthy:
		return nil, formatf(at+20, "Format, State", "%#x, %#x: not formatted and healthy", h.Format, h.State)
	case h.Size < storeHeaderSize || int64(h.Size) > int64(volumeEnd-at):
		return nil, formatf(at+16, "Size", "%d is not within %d..%d", h.Size, storeHeaderSize, volumeEnd-at)
	}
	s.start, s.end = alignUp(at+storeHeaderSize), at+int(h.Size)
	return s, s.readRecords()
}

// isBlank reports whether the image is large enough for ArmVirt's volume and has nothing in it.
func isBlank(image []byte) bool {
	if len(image) < armVirtVolume {
		return false
	}
	head := image[:armVirtVolume]
	return len(bytes.Trim(head, "\x00")) == 0 || len(bytes.Trim(head, "\xff")) == 0
}

// readVolume checks the volume header and returns where its content begins and ends.
func readVolume(image []byte) (start, end int, err error) {
	var h volumeHeader
	if _, err := binary.Decode(image, le, &h); err != nil {
		return 0, 0, formatf(0, "EFI_FIRMWARE_VOLUME_HEADER", "image has %d bytes", len(image))
	}
	start = int(h.HeaderLength)
	switch {
	case string(h.Signature[:]) != "_FVH":
		return 0, 0, formatf(40, "Signature", "%q is not a firmware volume", h.Signature[:])
	case h.FileSystemGuid != nvDataVolume:
		return 0, 0, formatf(16, "FileSystemGuid", "%v holds no variables", h.FileSystemGuid)
	case h.FvLength > uint64(len(image)):
		return 0, 0, formatf(32, "FvLength", "%d is more than the image's %d bytes", h.FvLength, len(image))
	case start < volumeHeaderSize || uint64(start) > h.FvLength || start%4 != 0:
		return 0, 0, formatf(48, "HeaderLength", "%d is not within %d..%d", start, volumeHeaderSize, h.FvLength)
	}
	if sum := sum16(image[:start]); sum != 0 {
		return 0, 0, formatf(50, "Checksum", "header sums to %#x, not 0", sum)
	}
	return start, int(h.FvLength), nil
}

// readRecords walks the records up to the first erased header, as firmware does.
func (s *Store) readRecords() error {
	var fading []record
	for at := s.start; at+variableHeaderSize <= s.end; {
		var h variableHeader
		if _, err := binary.Decode(s.image[at:], le, &h); err != nil {
			return formatf(at, "AUTHENTICATED_VARIABLE_HEADER", "%v", err)
		}
		if h.StartID != startID {
			break
		}
		r, next, err := s.readRecord(at, h)
		if err != nil {
			return err
		}
		switch h.State {
		case stateAdded:
			if s.find(r.v.Name, r.v.GUID) >= 0 {
				return formatf(at, "Name", "second variable %s-%v", r.v.Name, r.v.GUID)
			}
			s.records = append(s.records, r)
		case stateAdded & stateInTransition:
			fading = append(fading, r)
		}
		at = next
	}
	// A record in transition counts while its successor is not complete: that
	// is what makes a write atomic.
	for _, r := range fading {
		if s.find(r.v.Name, r.v.GUID) < 0 {
			s.records = append(s.records, r)
		}
	}
	return nil
}

// erased is a field that firmware had not yet written.
const erased = 0xffffffff

func (s *Store) readRecord(at int, h variableHeader) (record, int, error) {
	valid := h.State == stateAdded || h.State == stateAdded&stateInTransition
	if !valid && (h.State == 0xff || h.Attributes == erased || h.NameSize == erased || h.DataSize == erased) {
		h.NameSize, h.DataSize = 0, 0 // a cut before the header was whole; firmware skips only the header
	}
	name := at + variableHeaderSize
	room := int64(s.end - name)
	if int64(h.NameSize)+int64(h.DataSize) > room {
		return record{}, 0, formatf(at+36, "NameSize, DataSize", "%d + %d bytes are more than the %d left", h.NameSize, h.DataSize, room)
	}
	data := name + int(h.NameSize)
	end := data + int(h.DataSize)
	r := record{header: h, name: s.image[name:data], v: Variable{
		Name: decodeName(s.image[name:data]), GUID: h.VendorGUID,
		Attributes: h.Attributes, Data: s.image[data:end],
	}}
	return r, alignUp(end), nil
}
