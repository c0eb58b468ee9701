package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"time"

	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/hostclient"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
)

// hostFlags say how a machine is known, and who asks.
type hostFlags struct {
	Keys    string `placeholder:"DIR" help:"Key set: its operator key lets you in, its authority of hosts says which machine is yours." env:"INGOT_KEYS" type:"path"`
	HostKey string `placeholder:"SHA256" help:"Key that the machine shows, for one without an attestation server: its console and /v1/status (management.key) say it."`
	Name    string `placeholder:"NAME" help:"Name of the host, when it is reached by another or by an address."`
}

// client makes itself a certificate of some minutes.
func (f *hostFlags) client(v *verb, host string) (*hostclient.Client, error) {
	if f.Keys == "" {
		return nil, &ui.Error{Code: ui.CodeUsage, Err: errors.New("--keys is missing: whose machine is it?"), Hint: "--keys DIR names the key set whose operator authority the machine's image trusts; ingot keys init made it"}
	}
	set, err := keys.Open(f.Keys)
	if err != nil {
		return nil, keysError(err)
	}
	by, err := attestd.Authority(v.ctx, set, keys.Operator)
	if err != nil {
		return nil, keysError(err)
	}
	cert, err := verifier.OperatorCertificate(*by, operatorName(), time.Now())
	if err != nil {
		return nil, err
	}
	c, err := hostclient.New(hostclient.Options{Host: host, Certificate: cert, Hosts: set.Certificate(keys.Hosts), Name: f.Name, Key: f.HostKey})
	if err != nil {
		return nil, &ui.Error{Code: ui.CodeUsage, Err: err}
	}
	return c, nil
}

// ask asks for the slots of a host.
func (f *hostFlags) ask(v *verb, host string) (*updateapi.Slots, error) {
	return askHost(f, v, host, inquiry[*updateapi.Slots]{(*hostclient.Client).Slots, (*hostclient.Client).Told})
}

// inquiry is what a machine is asked, with TLS and without.
type inquiry[T any] struct {
	proven, told func(*hostclient.Client, context.Context) (T, error)
}

// askHost asks over TLS with a key set. Without one, and of a machine that has no
// server to vouch for it, the answer is what the machine tells everybody.
func askHost[T any](f *hostFlags, v *verb, host string, q inquiry[T]) (T, error) {
	if f.Keys == "" {
		v.ui.Note("told without proof; with --keys the machine has to show who it is")
		return tell(v, host, q)
	}
	c, err := f.client(v, host)
	if err != nil {
		var none T
		return none, err
	}
	s, err := q.proven(c, v.ctx)
	var unattested *hostclient.UnattestedError
	var plain *hostclient.PlainError
	switch {
	case errors.As(err, &unattested):
		v.ui.Warn("%s has no certificate of this fleet's attested hosts: what follows is told without proof", host)
		return tell(v, host, q)
	case errors.As(err, &plain):
		v.ui.Warn("%s answers in plain text only: what follows is told without proof", host)
		return tell(v, host, q)
	}
	return s, explainHost(host, err)
}

func tell[T any](v *verb, host string, q inquiry[T]) (answer T, err error) {
	c, err := hostclient.New(hostclient.Options{Host: host})
	if err != nil {
		return answer, &ui.Error{Code: ui.CodeUsage, Err: err}
	}
	s, err := q.told(c, v.ctx)
	return s, explainHost(host, err)
}

// explainHost adds what to do about a machine's no, or about none.
func explainHost(host string, err error) error {
	var refused *updateapi.Error
	var key *hostclient.KeyError
	var unattested *hostclient.UnattestedError
	var name *hostclient.NameError
	var stranger *hostclient.StrangerError
	var plain *hostclient.PlainError
	var memory *hostclient.NoSlotsError
	var empty *hostclient.NoLogError
	var deep interface{ Hint() string }
	switch {
	case err == nil, errors.As(err, &memory), errors.As(err, &empty): // the first brings its hint along
		return err
	case errors.As(err, &refused):
		return &ui.Error{Code: codeOf(refused), Err: err, Hint: refusedHint(host, refused)}
	case errors.As(err, &key), errors.As(err, &unattested), errors.As(err, &name), errors.As(err, &stranger), errors.As(err, &plain):
		errors.As(err, &deep)
		return &ui.Error{Code: ui.CodeRefused, Err: deep.(error), Hint: deep.Hint()}
	case errors.Is(err, context.Canceled):
		return err
	}
	var unknown *net.DNSError
	if errors.As(err, &unknown) && unknown.IsNotFound {
		return &ui.Error{Err: err, Hint: "is it spelled right? An address does as well: ADDRESS or ADDRESS:PORT"}
	}
	return &ui.Error{Err: err, Hint: "is the machine up, and is this its management port? The port of a recipe without management: is " + hostclient.DefaultPort + "; ingot run prints another"}
}

// codeOf is the exit code of a refusal: the machine has checked a release and
// says no, or something else went wrong.
func codeOf(e *updateapi.Error) int {
	switch e.Code {
	case updateapi.Untrusted, updateapi.Mismatched, updateapi.BelowFloor, updateapi.IsRejected, updateapi.WrongBytes, updateapi.Denied:
		return ui.CodeRefused
	}
	return ui.CodeError
}

// wordHost stands in a machine's hints where its own name belongs: it does not know
// by which it was asked.
var wordHost = regexp.MustCompile(`\bHOST\b`)

func refusedHint(host string, e *updateapi.Error) string {
	switch {
	case e.Code == updateapi.IsRejected:
		return "ingot why " + host + " says why it failed; --override lets the machine try it all the same"
	case e.Code == updateapi.Untrusted && e.Hint == "":
		return "ingot sign it with the keys that the machine's image trusts (trust.image)"
	case e.Hint != "":
		return wordHost.ReplaceAllLiteralString(e.Hint, host)
	case e.Code == updateapi.NotAllowed:
		return "ingot why " + host
	}
	return ""
}

// progressOf says how far a machine is.
func progressOf(v *verb, host string, p *updateapi.Progress, what string) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			Host string `json:"host"`
			*updateapi.Progress
		}{host, p})
	}
	text := fmt.Sprintf("%s: %s", host, what)
	if p.Notice != "" {
		text += " (" + p.Notice + ")"
	}
	return v.ui.Print("%s", text)
}
