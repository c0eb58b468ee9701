// Package strictyaml reads the YAML files that people write for ingot and
// reports everything that is wrong with one at once, each finding with
// file:line:column, a cause and a hint.
//
// The language is YAML 1.2.2 core schema without the parts that surprise: one
// document, no tags, no merge keys, string keys only, no implicit conversion
// between scalars (version: 1.10 is a number, not a version). Anchors and
// aliases work, within a budget. Input is hostile until proven otherwise:
// size, nesting, tokens and expanded aliases are all bounded before the
// parser's recursion or quadratic paths are reached.
//
// Shape of use:
//
//	doc, err := strictyaml.Parse("appliance.yaml", data, strictyaml.Limits{})
//	errs := doc.Decode(&value, keys) // keys: the table of what each key may hold
//	errs = append(errs, doc.Errorf("services[1].command", "...", "hint"))
//
// A Table describes every key once. The decoder enforces it; package keydoc
// makes the JSON Schema and the reference page from the same table, so the
// three cannot drift apart.
package strictyaml
