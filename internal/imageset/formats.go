package imageset

// Format is a further output: the same disk in another container.
type Format struct {
	Name   string // as the recipe's outputs name it
	Suffix string // of the file in the set
}

// Formats are all that there are.
var Formats []Format
