// What ingot is measured beside, in a module of its own: it is no dependency.
module github.com/ingot-os/ingot/internal/bench/peers

go 1.26

require github.com/google/go-attestation v0.6.1

require (
	github.com/google/go-tpm v0.9.8 // indirect
	golang.org/x/sys v0.41.0 // indirect
)
