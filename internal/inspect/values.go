package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Limits of a JSON document that is shown value by value. A key is the way to
// its value, so a few long names above many values would take any amount of
// memory.
const (
	maxKey    = 1 << 10   // bytes
	maxValues = 128 << 20 // bytes of all keys and values
	valueCost = 64        // bytes of one, beside its text
)

// addJSON shows a JSON document as one field for each value:
// "services[0].command".
func addJSON(n *Node, r io.Reader) error {
	dec := json.NewDecoder(r)
	dec.UseNumber() // a size as float64 would print as 1.2e+07
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	w := values{n, maxValues}
	return w.add("", v)
}

// values adds the values of a document to a node, as long as there is room.
type values struct {
	node *Node
	left int // bytes
}

func (w *values) add(key string, v any) error {
	if len(key) > maxKey {
		return tooLong(key)
	}
	if w.left -= len(key) + valueCost; w.left < 0 {
		return errors.New("more values than are shown")
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if len(k) > maxKey {
				return tooLong(k)
			}
			if err := w.add(strings.TrimPrefix(key+"."+k, "."), v[k]); err != nil {
				return err
			}
		}
	case []any:
		for i, e := range v {
			if err := w.add(fmt.Sprintf("%s[%d]", key, i), e); err != nil {
				return err
			}
		}
	default:
		w.node.add(key, v)
	}
	return nil
}

func tooLong(key string) error {
	return fmt.Errorf("the name of a value, %.80q…, has more than %d bytes", key, maxKey)
}
