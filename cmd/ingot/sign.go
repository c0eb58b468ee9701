package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/internal/ui"
)

type signCmd struct {
	Request signRequestCmd `cmd:"" help:"Write what a set wants signed: digests only."`
	Answer  signAnswerCmd  `cmd:"" default:"withargs" help:"Sign a request, where the keys are; the word answer may be left out."`
	Attach  signAttachCmd  `cmd:"" help:"Put signatures into a set."`
}

type signRequestCmd struct {
	Dir string `arg:"" help:"Image set." type:"existingdir"`
	outFlags
	WithMessage bool `help:"Include the manifest, which Ed25519 and RSA keys need and a person may read."`
}

// Run writes a request for the signatures that the set lacks.
func (c *signRequestCmd) Run(v *verb) error {
	if err := c.free(); err != nil {
		return err
	}
	set, err := openSet(c.Dir)
	if err != nil {
		return err
	}
	r, err := signing.NewRequest(set, c.WithMessage)
	if err != nil {
		return signError(err)
	}
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := c.write(v, data); err != nil || c.Out == "" {
		return err
	}
	if signed, err := signing.Signed(set); err == nil && signed && r.Manifest != nil {
		v.ui.Note("everything is signed already; another key may sign the manifest, too")
	}
	next(v, "ingot sign --keys DIR %s -o RESPONSE   where the keys are", c.Out)
	next(v, "ingot sign attach %s RESPONSE   back here", c.Dir)
	return nil
}

type signAnswerCmd struct {
	keysFlags
	Key         string `placeholder:"URI" help:"One private key, file:, pkcs11: or exec:, instead of a key set."`
	Certificate string `placeholder:"FILE" help:"Certificate of --key, or its public key when it signs manifests." type:"existingfile"`
	Request     string `arg:"" help:"Request to sign, as ingot sign request wrote it." type:"existingfile"`
	outFlags
	Yes bool `help:"Do not ask before signing; needed where nobody can be asked."`
}

// Run shows what is to be signed, and signs it.
func (c *signAnswerCmd) Run(v *verb) error {
	if err := c.free(); err != nil {
		return err
	}
	a, err := c.signer(v)
	if err != nil {
		return err
	}
	data, err := readDocument(c.Request)
	if err != nil {
		return err
	}
	r, err := signing.ParseRequest(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Request, err)
	}
	if err := c.confirm(v, r); err != nil {
		return err
	}
	resp, err := a.Answer(r)
	if err != nil {
		return signError(err)
	}
	if data, err = resp.Marshal(); err != nil {
		return err
	}
	if err := c.write(v, data); err != nil || c.Out == "" {
		return err
	}
	next(v, "ingot sign attach SET %s   where the set is", filepath.Base(c.Out))
	return nil
}

// signer is the authority of a key set or of a single key.
func (c *signAnswerCmd) signer(v *verb) (*signing.Authority, error) {
	if c.Key == "" {
		a, err := c.authority(v.ctx)
		if err == nil && a == nil {
			err = &ui.Error{Code: ui.CodeUsage, Err: errors.New("no keys to sign with"), Hint: "--keys DIR, or --key URI --certificate FILE"}
		}
		return a, err
	}
	if c.Certificate == "" {
		return nil, &ui.Error{Code: ui.CodeUsage, Err: errors.New("--key without --certificate"), Hint: "--certificate FILE has the certificate, or for manifests the public key"}
	}
	pub, cert, err := keys.ReadPublic(c.Certificate)
	if err != nil {
		return nil, err
	}
	a, err := signing.Single(v.ctx, c.Key, pub, cert, c.options())
	return a, keysError(err)
}

// confirm shows a person what will be signed, with the digests to compare. A
// script says with --yes that somebody has looked.
func (c *signAnswerCmd) confirm(v *verb, r *signing.Request) error {
	if !v.ui.Terminal || v.ui.JSON {
		if c.Yes {
			return nil
		}
		return &ui.Error{
			Code: ui.CodeUsage, Err: fmt.Errorf("sign %s: nobody can be asked here whether it is what is meant", c.Request),
			Hint: "add --yes when it is; ingot sign at a terminal shows it and asks",
		}
	}
	v.ui.Say("to sign for %v:", r.Set)
	if err := ui.WriteTable(v.env.Stderr, nil, r.Lines()); err != nil || c.Yes {
		return err
	}
	fmt.Fprint(v.env.Stderr, "sign? [y/N] ")
	answer, err := readLine(v)
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return errors.New("nothing was signed")
	}
	return nil
}

type signAttachCmd struct {
	Dir         string   `arg:"" help:"Image set." type:"existingdir"`
	Responses   []string `arg:"" optional:"" name:"response" help:"Responses, as ingot sign wrote them." type:"existingfile"`
	Raw         []string `sep:"none" placeholder:"NAME=FILE" help:"Signature that another program made: of a boot file, or of manifest.json."`
	Certificate []string `sep:"none" placeholder:"FILE" help:"Certificates and public keys that the raw signatures verify with." type:"existingfile"`
}

// Run replaces the set by the signed one.
func (c *signAttachCmd) Run(v *verb) error {
	set, err := openSet(c.Dir)
	if err != nil {
		return err
	}
	var responses []*signing.Response
	for _, path := range c.Responses {
		data, err := readDocument(path)
		if err != nil {
			return err
		}
		r, err := signing.ParseResponse(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		responses = append(responses, r)
	}
	if len(c.Raw) > 0 {
		req, err := signing.NewRequest(set, true)
		if err != nil {
			return signError(err)
		}
		r, err := c.raw(req)
		if err != nil {
			return signError(err)
		}
		responses = append(responses, r)
	}
	if len(responses) == 0 {
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("nothing to attach"), Hint: "name responses of ingot sign, or --raw NAME=FILE with --certificate FILE"}
	}
	if err := signing.Attach(set, responses, time.Now()); err != nil {
		return signError(err)
	}
	return c.print(v)
}

// print says what is signed now.
func (c *signAttachCmd) print(v *verb) error {
	set, err := openSet(c.Dir)
	if err != nil {
		return err
	}
	signed, err := signing.Signed(set)
	if err != nil {
		return err
	}
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			Dir      string `json:"dir"`
			Signed   bool   `json:"manifestSigned"`
			Manifest any    `json:"manifest"`
		}{set.Dir, signed, set.Manifest})
	}
	if err := v.ui.Print("%s", set.Dir); err != nil {
		return err
	}
	if signed {
		next(v, "ingot verify %s --keys DIR", c.Dir)
	} else {
		next(v, "ingot sign request %s   asks for the second signature, that of the manifest", c.Dir)
	}
	return nil
}

// raw makes a response of the signatures of other programs.
func (c *signAttachCmd) raw(req *signing.Request) (*signing.Response, error) {
	signatures := map[string][]byte{}
	for _, s := range c.Raw {
		name, path, ok := strings.Cut(s, "=")
		if _, twice := signatures[name]; !ok || twice {
			return nil, &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--raw %q: want NAME=FILE, each name once", s)}
		}
		data, err := readDocument(path)
		if err != nil {
			return nil, err
		}
		signatures[name] = data
	}
	var trusted []signing.Certified
	for _, path := range c.Certificate {
		pub, cert, err := keys.ReadPublic(path)
		if err != nil {
			return nil, err
		}
		trusted = append(trusted, signing.Certified{Key: pub, Certificate: cert})
	}
	return signing.Raw(req, signatures, trusted)
}

// signError gives refused signatures their exit code, and says what to do.
func signError(err error) error {
	out := &ui.Error{Err: err}
	switch {
	case errors.Is(err, keys.ErrTestKey), errors.Is(err, signing.ErrDates):
		return keysError(err)
	case errors.Is(err, signing.ErrMessage):
		out.Hint = "ingot sign request --with-message DIR"
	case errors.Is(err, signing.ErrMissing):
		out.Hint = "ingot sign request DIR asks for all that are missing; attach their responses together"
	case errors.Is(err, signing.ErrPolicyKey):
		out.Code, out.Hint = ui.CodeRefused, "sign with the policy key that the recipe's trust names, or change trust, lock and build again"
	case errors.Is(err, signing.ErrNotWanted):
		out.Hint = "ingot sign request DIR says what the set wants"
	case errors.Is(err, signing.ErrOtherSet):
		out.Code, out.Hint = ui.CodeRefused, "ingot sign request DIR makes a request for the set as it is"
	case errors.Is(err, pkcs7.ErrSignature), errors.Is(err, dsse.ErrUntrusted):
		out.Code = ui.CodeRefused
	case errors.Is(err, imageset.ErrUnknownFile):
		out.Hint = "use the ingot that built the set, whose version manifest.json has under tools"
	case errors.Is(err, imageset.ErrChanged):
		out.Code, out.Hint = ui.CodeRefused, "build the set again"
	default:
		return err
	}
	return out
}
