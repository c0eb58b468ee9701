package verify

import "io"

// WithImage lets a reader stand for the file at Path.
func (o Options) WithImage(r io.ReaderAt, size int64) Options {
	o.image = &image{r: r, name: "image", size: size}
	return o
}
