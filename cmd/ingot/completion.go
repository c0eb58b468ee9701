package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ingot-os/ingot/internal/ui"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints a script made from the same grammar that parses the flags, so it
// cannot fall behind.
func (c *completionCmd) Run(v *verb, app *kong.Kong) error {
	verbs := map[string][]string{}
	for _, n := range app.Model.Children {
		if n.Hidden {
			continue
		}
		for _, f := range n.Flags {
			if !f.Hidden {
				verbs[n.Name] = append(verbs[n.Name], "--"+f.Name)
			}
		}
		verbs[n.Name] = append(verbs[n.Name], "--help", "--json")
	}
	names := make([]string, 0, len(verbs))
	for n := range verbs {
		names = append(names, n)
		slices.Sort(verbs[n])
	}
	slices.Sort(names)
	write, ok := completions[c.Shell]
	if !ok {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("complete for %s: unknown shell", c.Shell)}
	}
	_, err := fmt.Fprint(v.ui.Out, write(names, verbs))
	return err
}

var completions = map[string]func([]string, map[string][]string) string{
	"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion,
}

func bashCompletion(names []string, verbs map[string][]string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "_ingot() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} words=\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then words=%q; fi\n", strings.Join(names, " "))
	s.WriteString("\tif [ \"$COMP_CWORD\" -gt 1 ] && [[ $cur == -* ]]; then case ${COMP_WORDS[1]} in\n")
	for _, n := range names {
		fmt.Fprintf(&s, "\t\t%s) words=%q ;;\n", n, strings.Join(verbs[n], " "))
	}
	s.WriteString("\tesac; fi\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n")
	s.WriteString("\t[ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -o filenames -F _ingot ingot\n")
	return s.String()
}

func zshCompletion(names []string, verbs map[string][]string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "#compdef ingot\n_ingot() {\n\tif (( CURRENT == 2 )); then compadd %s; return; fi\n\tif [[ $words[CURRENT] == -* ]]; then case $words[2] in\n", strings.Join(names, " "))
	for _, n := range names {
		fmt.Fprintf(&s, "\t\t%s) compadd -- %s ;;\n", n, strings.Join(verbs[n], " "))
	}
	s.WriteString("\tesac; else _files; fi\n}\ncompdef _ingot ingot\n")
	return s.String()
}

func fishCompletion(names []string, verbs map[string][]string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "complete -c ingot -n __fish_use_subcommand -f -a %q\n", strings.Join(names, " "))
	for _, n := range names {
		for _, f := range verbs[n] {
			fmt.Fprintf(&s, "complete -c ingot -n '__fish_seen_subcommand_from %s' -l %s\n", n, strings.TrimPrefix(f, "--"))
		}
	}
	return s.String()
}
