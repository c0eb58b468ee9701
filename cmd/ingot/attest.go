package main

// attestCmd is the parent of what is done with evidence of a boot.
type attestCmd struct {
	Collect attestCollectCmd `cmd:"" help:"Have the TPM of this machine prove what it has booted."`
}
