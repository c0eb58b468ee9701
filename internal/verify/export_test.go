package verify

import (
	"crypto/x509"
	"io"
)

// WithImage lets a reader stand for the file at Path.
func (o Options) WithImage(r io.ReaderAt, size int64) Options {
	o.image = &image{r: r, name: "image", size: size}
	return o
}

// Consistent is consistent for a program in memory.
func Consistent(r io.ReaderAt, size int64) (*x509.Certificate, error) {
	return consistent(program{r: r, size: size})
}

// Finish draws the conclusion from checks.
func Finish(checks ...*Check) *Report {
	r := &Report{Checks: checks}
	r.finish()
	return r
}
