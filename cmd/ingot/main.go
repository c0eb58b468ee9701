// Command ingot turns a recipe into a reproducible bootable image, boots it,
// and puts it on machines. One file per verb; docs/recipe.md describes the
// recipe, ARCHITECTURE.md the repository.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
}

// env is all that the program takes from its surroundings, so that a test can
// run every verb in its own process.
type env struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}
