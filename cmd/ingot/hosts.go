package main

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/machine"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

type hostsCmd struct {
	Host   string `arg:"" optional:"" help:"Host to show, or to do something about (default: list all)."`
	Server string `required:"" placeholder:"URL" help:"Attestation API of ingot serve, or of ingot attest serve (https://NAME:9444)." env:"INGOT_SERVER"`
	Keys   string `required:"" placeholder:"DIR" help:"Key set: its operator key lets you in, its server authority says which server is yours." env:"INGOT_KEYS" type:"path"`

	Approve        bool   `xor:"do" help:"Let a host in that waits: you vouch for its TPM."`
	EK             string `name:"ek" placeholder:"HEX" help:"With --approve: the EK that you have compared; another one is refused."`
	Reenrol        bool   `xor:"do" help:"Let the name be enrolled once more, for instance with another TPM."`
	Revoke         bool   `xor:"do" help:"Put a host out."`
	AcceptFirmware bool   `xor:"do" help:"Take its firmware as it is in the newest evidence."`
	Machine        string `xor:"do" placeholder:"FILE" help:"Register this machine.yaml as the one that the host must have." type:"path"`
	Floor          *int64 `xor:"do" placeholder:"N" help:"Lowest security epoch that the host may run; it only goes up."`
	Assign         string `xor:"do" placeholder:"VERSION|DIGEST" help:"Assign a release of the server's: the host fetches it and writes it to its other slot; one without a disk is served it."`
	ApproveUpdate  bool   `help:"With --assign: the host tries it as soon as it is written, or starts again for it where it has no disk; else it waits."`
	Override       bool   `help:"With --assign: although the host has rejected it, or was taken back from it."`
	Unassign       bool   `xor:"do" help:"Take the assignment back; the host stays as it is."`

	hostBoot
}

// Run lists hosts, shows one, or does something about one.
func (c *hostsCmd) Run(v *verb) error {
	if c.EK != "" && !c.Approve {
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--ek is for --approve"), Hint: "ingot hosts HOST --approve --ek HEX"}
	}
	if (c.ApproveUpdate || c.Override) && c.Assign == "" {
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--approve-update and --override are for --assign"), Hint: "ingot hosts HOST --assign VERSION --approve-update"}
	}
	if err := c.hostBoot.validate(c.Host); err != nil {
		return err
	}
	action, err := c.action()
	if err != nil {
		return err
	}
	if c.Host == "" && action.Action != "" {
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("no host is named to do this about"), Hint: "ingot hosts HOST --" + action.Action}
	}
	client, err := c.client(v)
	if err != nil {
		return err
	}
	switch {
	case c.Host == "":
		l, err := client.List(v.ctx)
		if err != nil {
			return c.explain(err)
		}
		return c.list(v, l, client)
	case c.asked():
		return c.boots(v, client)
	case action.Action != "":
		if err := c.look(v, client, &action); err != nil {
			return err
		}
		d, err := client.Act(v.ctx, c.Host, action)
		if err != nil {
			return c.explain(err)
		}
		return c.done(v, d, action.Action)
	}
	d, err := client.Host(v.ctx, c.Host)
	if err != nil {
		return c.explain(err)
	}
	if d.State == attest.Pending {
		defer next(v, "compare \"EK name\" with the line \"attestation: enrolled as …\" of the machine's console, or EK with what its maker says, then: ingot hosts %s --approve --ek %s", c.Host, cmp.Or(d.EK, d.EKName))
	}
	return v.ui.Host(d, time.Now())
}

func (c *hostsCmd) action() (a verifier.Action, err error) {
	switch {
	case c.Approve:
		a.Action = verifier.ActionApprove
	case c.Reenrol:
		a.Action = verifier.ActionReenrol
	case c.Revoke:
		a.Action = verifier.ActionRevoke
	case c.AcceptFirmware:
		a.Action = verifier.ActionFirmware
	case c.Assign != "":
		a = verifier.Action{Action: verifier.ActionAssign, Release: c.Assign, Approved: c.ApproveUpdate, Override: c.Override}
	case c.Unassign:
		a.Action = verifier.ActionUnassign
	case c.Floor != nil:
		a.Action, a.Floor = verifier.ActionFloor, c.Floor
	case c.Machine != "":
		b, err := regular.Read(c.Machine, machine.MaxSize)
		if err != nil {
			return a, err
		}
		sum := sha256.Sum256(b)
		a.Action, a.Machine = verifier.ActionMachine, sum[:]
	}
	return a, nil
}

// look asks for what the action is about: the server refuses it when that has
// changed meanwhile.
func (c *hostsCmd) look(v *verb, client *verifier.Client, a *verifier.Action) error {
	if a.Action != verifier.ActionApprove && a.Action != verifier.ActionFirmware {
		return nil
	}
	d, err := client.Host(v.ctx, c.Host)
	if err != nil {
		return c.explain(err)
	}
	if ek := strings.ToLower(c.EK); ek != "" && ek != d.EK && ek != d.EKName {
		return &ui.Error{Code: ui.CodeRefused, Err: fmt.Errorf("the EK of %s is %s, not %s", c.Host, cmp.Or(d.EK, d.EKName), c.EK), Hint: "another TPM waits under this name: ingot hosts " + c.Host + " --revoke puts it out"}
	}
	a.About(d)
	return nil
}

// client makes itself a certificate of some minutes.
func (c *hostsCmd) client(v *verb) (*verifier.Client, error) {
	set, err := keys.Open(c.Keys)
	if err != nil {
		return nil, keysError(err)
	}
	by, err := attestd.Authority(v.ctx, set, keys.Operator)
	if err != nil {
		return nil, keysError(err)
	}
	server := set.Certificate(keys.Server)
	if server == nil {
		return nil, fmt.Errorf("the key set %s has no server authority", c.Keys)
	}
	cert, err := verifier.OperatorCertificate(*by, operatorName(), time.Now())
	if err != nil {
		return nil, err
	}
	client, err := verifier.NewClient(c.Server, server, cert)
	if err != nil {
		return nil, &ui.Error{Code: ui.CodeUsage, Err: err, Hint: c.addressHint()}
	}
	return client, nil
}

// addressHint makes an address of what was typed instead of one.
func (c *hostsCmd) addressHint() string {
	rest := c.Server
	if _, after, ok := strings.Cut(rest, "://"); ok {
		rest = after
	}
	u, err := url.Parse("https://" + rest)
	if err != nil || u.Hostname() == "" {
		return "--server https://NAME:9444"
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "9444")
	}
	return "--server https://" + u.Host
}

// operatorName is who the record says has done it.
func operatorName() string {
	name, host := "operator", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return (name + "@" + host)[:min(64, len(name)+1+len(host))]
}

func (c *hostsCmd) list(v *verb, l *verifier.List, client *verifier.Client) error {
	b, err := client.Boots(v.ctx)
	var api *verifier.APIError
	if errors.As(err, &api) && api.Code == verifier.RequestUnknown {
		b, err = nil, nil // it serves no boots
	}
	if err != nil {
		return c.explain(err)
	}
	if err := v.ui.Hosts(l, b); err != nil {
		return err
	}
	switch {
	case len(l.Hosts) == 0:
		next(v, "a machine enrols by itself: attest: {server: %s} in its recipe, trust: with this key set", c.Server)
	case len(waiting(l)) > 0:
		next(v, "ingot hosts %s   shows whose TPM waits for approval", waiting(l)[0])
	}
	return nil
}

func waiting(l *verifier.List) (names []string) {
	for _, h := range l.Hosts {
		if h.State == attest.Pending {
			names = append(names, h.Name)
		}
	}
	return names
}

// done shows what is, and ends well: what was wanted was done.
func (c *hostsCmd) done(v *verb, d *verifier.Detail, what string) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(d)
	}
	if what == verifier.ActionAssign {
		return c.assigned(v, d)
	}
	return v.ui.Print("%s: %s", d.Name, map[string]string{
		verifier.ActionUnassign: "no release is assigned any more",
		verifier.ActionApprove:  "approved", verifier.ActionReenrol: "may be enrolled once more", verifier.ActionRevoke: "revoked",
		verifier.ActionFirmware: "firmware accepted as it is", verifier.ActionMachine: fmt.Sprintf("machine.yaml registered, sha256 %x", d.Record.Machine),
		verifier.ActionFloor: fmt.Sprintf("floor is security epoch %d", d.Record.Floor),
	}[what])
}

// assigned says what comes of an assignment.
func (c *hostsCmd) assigned(v *verb, d *verifier.Detail) error {
	if d.Update == nil || d.Update.Assignment == nil { // another operator was quick
		return v.ui.Print("%s: no release is assigned any more", d.Name)
	}
	a := d.Update.Assignment
	if err := v.ui.Print("%s: %s is assigned, manifest %s", d.Name, a.Version, a.Release); err != nil {
		return err
	}
	if d.Withheld != nil {
		v.ui.Warn("it is withheld for now: %s", d.Withheld.Detail)
	}
	if !a.Approved {
		next(v, "ingot hosts %s --assign %s --approve-update   lets it be tried; until then it is written at most, and waits", d.Name, a.Version)
	}
	return nil
}

// refusals are codes of what verification refuses, for exit code 3.
var refusals = []attest.Code{updateapi.Mismatched, updateapi.BelowFloor, updateapi.IsRejected, assign.Missing, assign.Unusable}

// explain adds what to do about an answer, or about none.
func (c *hostsCmd) explain(err error) error {
	var api *verifier.APIError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var verification *tls.CertificateVerificationError
	var network *net.OpError
	var record tls.RecordHeaderError
	out := &ui.Error{Err: err}
	switch {
	case errors.As(err, &api) && api.Code == attest.HostUnknown:
		out.Hint = "ingot hosts --server " + c.Server + " lists those that there are"
		if mac, err := netboot.ParseMAC(c.Host); err == nil {
			out.Hint = fmt.Sprintf("a MAC address is for boots over the network: ingot hosts %s --explain says whose it is and what it boots, --timeline how far its boots came", mac)
		}
	case errors.As(err, &api) && api.Code == verifier.RequestOperator:
		out.Code, out.Hint = ui.CodeRefused, "the server has other keys: --keys names the key set that it was started with"
	case errors.As(err, &api): // what was asked makes no sense for this host
		if out.Hint = api.Hint; slices.Contains(refusals, api.Code) {
			out.Code = ui.CodeRefused
		}
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		out.Hint = "this port does not speak TLS: the attestation API is on port 9444 unless the server was told otherwise; it prints its address when it starts"
	case errors.As(err, &name):
		out.Hint = "start the server with --name " + name.Host + ", or use one of its names"
	case errors.As(err, &unknown) || errors.As(err, &verification):
		out.Code, out.Hint = ui.CodeRefused, "this is not a server of these keys: --keys names the key set that it was started with"
	case errors.As(err, &network):
		out.Hint = "is ingot serve, or ingot attest serve, running there? It prints its address when it starts"
	}
	return out
}
