package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ingot-os/ingot/internal/ui"
)

// cli is the command contract: verbs and flags stay as they are.
type cli struct {
	JSON bool `help:"Print the result as JSON on standard output."`

	Init       initCmd       `cmd:"" help:"Write a small complete recipe into a directory."`
	Check      checkCmd      `cmd:"" help:"Find what would keep a recipe from building or booting."`
	Lock       lockCmd       `cmd:"" help:"Resolve every input of a recipe to a digest in its lock."`
	Build      buildCmd      `cmd:"" help:"Build the image set that the lock describes."`
	Inspect    inspectCmd    `cmd:"" help:"Print what an artifact holds."`
	Diff       diffCmd       `cmd:"" help:"Explain how two artifacts differ."`
	Run        runCmd        `cmd:"" help:"Boot an image set in QEMU, with the console here."`
	Test       testCmd       `cmd:"" help:"Boot an image set in QEMU and run the smoke tests of its recipe."`
	Reproduce  reproduceCmd  `cmd:"" help:"Make an image set again and compare every byte."`
	Keys       keysCmd       `cmd:"" help:"Make, list and export the keys of a fleet."`
	Sign       signCmd       `cmd:"" help:"Sign an image set with keys that are elsewhere."`
	Measure    measureCmd    `cmd:"" help:"Predict what a boot measures into the TPM."`
	Attest     attestCmd     `cmd:"" help:"Prove and judge what a machine has booted, by its TPM."`
	Verify     verifyCmd     `cmd:"" help:"Check signature, digests and contents of an image set, image or disk."`
	Scan       scanCmd       `cmd:"" help:"Match what an image set consists of against known vulnerabilities."`
	Serve      serveCmd      `cmd:"" help:"Serve machines that boot from the network: DHCP, TFTP, HTTP Boot, attestation."`
	Hosts      hostsCmd      `cmd:"" help:"List the hosts of a server, show one, approve or revoke it."`
	Flash      flashCmd      `cmd:"" help:"Write an image to a disk."`
	Delta      deltaCmd      `cmd:"" help:"Make the small patch from one release to the next."`
	Update     updateCmd     `cmd:"" help:"Send a release to a host, and wait for its verdict; or write it to a stick."`
	Rollback   rollbackCmd   `cmd:"" help:"Let a host go back to the version before."`
	Slots      slotsCmd      `cmd:"" help:"Show slots, versions, slot journal and boot entries of a host or a disk."`
	Why        whyCmd        `cmd:"" help:"Explain which slot starts, why, and what failed last."`
	Version    versionCmd    `cmd:"" help:"Print versions."`
	Completion completionCmd `cmd:"" help:"Print a shell completion script."`
}

// verb is what every command gets beside its flags.
type verb struct {
	ctx context.Context
	ui  *ui.UI
	env env
}

func run(ctx context.Context, e env) int {
	var c cli
	u := ui.New(e.Stdout, e.Stderr)
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("ingot"),
		kong.Description("Reproducible, measured, self-healing appliance images for bare metal."),
		kong.UsageOnError(), kong.Writers(e.Stdout, e.Stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { exited = code }),
	)
	if err != nil {
		return u.Fail(err)
	}
	kctx, err := parser.Parse(asked(e.Args))
	if exited >= 0 { // --help has been printed
		return exited
	}
	if err != nil {
		return u.Fail(usage(err))
	}
	u.JSON = c.JSON
	return u.Fail(kctx.Run(&verb{ctx: ctx, ui: u, env: e}))
}

// asked reads "ingot", "ingot help" and "ingot help VERB" as questions for help.
func asked(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	}
	return args
}

// usage turns a parse error into one with exit code 2 and where to look.
func usage(err error) error {
	hint := "ingot --help"
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil && pe.Context.Command() != "" {
		hint = pe.Context.Selected().FullPath() + " --help"
		if list := environment(pe.Context); strings.HasPrefix(err.Error(), "missing flags") && list != "" {
			hint = "export" + list + " stands for them; " + hint
		}
	}
	if text := strings.Replace(err.Error(), `one of "",`, "one of ", 1); text != err.Error() { // nothing is what nobody types
		err = errors.New(text)
	}
	return &ui.Error{Code: ui.CodeUsage, Err: err, Hint: hint}
}

// environment are the variables that stand for required flags which lack.
func environment(c *kong.Context) (list string) {
	for _, f := range c.Selected().Flags {
		if f.Required && !f.Set && len(f.Envs) > 0 {
			list += " " + f.Envs[0] + "=" + f.FormatPlaceHolder()
		}
	}
	return list
}
