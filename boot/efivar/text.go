package efivar

import "unicode/utf16"

// cutText decodes UTF-16 up to NUL and returns the number of bytes it took.
func cutText(b []byte) (string, int, error) {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := le.Uint16(b[i:])
		if u == 0 {
			return string(utf16.Decode(units)), i + 2, nil
		}
		units = append(units, u)
	}
	return "", 0, errText
}

// appendText encodes s as UTF-16 with a trailing NUL.
func appendText(b []byte, s string) []byte {
	for _, u := range utf16.Encode([]rune(s)) {
		b = le.AppendUint16(b, u)
	}
	return le.AppendUint16(b, 0)
}
