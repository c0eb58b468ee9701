package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Digest returns the SHA-256, in hexadecimal, of what a recipe means: the
// JSON of its keys after defaults, sorted, without those that are empty.
// Comments, order of keys, spelling of sizes and the recipe's own place do
// not count, nor does what scan: accepts; a key that a later ingot adds changes no digest until it is used.
func Digest(r *Recipe) string {
	// Marshal of a map sorts its keys; all leaves are texts, integers and
	// booleans, whose JSON has one form only.
	keys, _ := canonical(reflect.ValueOf(r).Elem()).(map[string]any)
	delete(keys, "scan") // a policy for findings: changing it must not change an image
	b, err := json.Marshal(keys)
	if err != nil {
		panic("recipe: " + err.Error()) // the types above always marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// canonical turns a value into maps, lists and scalars, nil for what is empty.
func canonical(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if c := canonical(v.Elem()); c != nil {
			return c
		}
		return v.Elem().Interface() // content: "" is not the same as no content
	case reflect.Struct:
		out := map[string]any{}
		for _, f := range strictyaml.Fields(v.Type()) {
			if c := canonical(v.FieldByIndex(f.Index)); c != nil {
				out[f.Name] = c
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		out := make([]any, v.Len())
		for i := range out {
			out[i] = canonical(v.Index(i))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[k.String()] = v.MapIndex(k).Interface()
		}
		if len(out) == 0 {
			return nil
		}
		return out
	}
	if v.IsZero() {
		return nil
	}
	return scalar(v)
}

// scalar drops the named type, whose own JSON form must not enter the digest.
func scalar(v reflect.Value) any {
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return v.Uint()
	case v.Kind() == reflect.Bool:
		return v.Bool()
	}
	return v.String()
}
