// Package jsondoc gives the documents of an image set their only JSON form: two
// spaces, no escapes for HTML, a final line break, fields in the order of their
// structs. Readers compare what they read with what they would write, so the
// form is part of the formats.
package jsondoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Marshal encodes a document.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// ErrMore is what Unmarshal says of something behind the document.
var ErrMore = errors.New("data after the document")

// Unmarshal decodes one document and nothing else: unknown fields are refused,
// for they mean something that would be passed over, and so is what follows.
func Unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return ErrMore
	}
	return nil
}
