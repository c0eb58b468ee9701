package ui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/verify"
)

// Report is the result of ingot verify: the verdict, on a terminal a table of
// the checks, and always what was not checked. A refusal is returned as an
// error with exit code 3.
func (u *UI) Report(r *verify.Report) error {
	if u.JSON {
		if err := u.PrintJSON(r); err != nil || r.Verdict != verify.Refused {
			return err
		}
		return Exit(CodeRefused)
	}
	if r.Verdict != verify.Refused {
		if err := u.Print("%s", verdict(r)); err != nil {
			return err
		}
	}
	if u.Terminal {
		if err := u.Table([]string{"check", "result", "compared"}, checkRows(r)); err != nil {
			return err
		}
	}
	for _, n := range r.NotChecked {
		if n.Why == verify.WhyRefused {
			continue // the refusal says it
		}
		if err := u.Print("not checked: %s", noteWords(n)); err != nil {
			return err
		}
	}
	if r.Verdict == verify.Refused {
		return refusal(r)
	}
	return nil
}

func verdict(r *verify.Report) string {
	what := r.Name + "-" + r.Version
	if r.Verdict == verify.Unsigned {
		return what + ": whole, but nobody's: signatures were not checked"
	}
	short := make([]string, len(r.Signers))
	for i, s := range r.Signers {
		short[i] = Short(s)
		if slices.Contains(r.TestSigners, s) {
			short[i] += " (a TEST key)"
		}
	}
	return fmt.Sprintf("%s: verified, signed by key %s", what, strings.Join(short, " and "))
}

// compared is the noun of what a check counts.
var compared = map[verify.CheckName][]string{
	verify.CheckSignature: {"key"}, verify.CheckManifest: {"manifest"}, verify.CheckFiles: {"file"},
	verify.CheckTable: {"entry in both copies", "entries in both copies"}, verify.CheckPartitions: {"partition"},
	verify.CheckBoot: {"section"}, verify.CheckSecureBoot: {"program"}, verify.CheckInitramfs: {"entry", "entries"},
	verify.CheckRoot: {"partition"}, verify.CheckSBOM: {"file in the partitions", "files in the partitions"},
	verify.CheckProvenance: {"output"}, verify.CheckReference: {"way to boot", "ways to boot"}, verify.CheckPolicies: {"floor"}, verify.CheckContainers: {"file"},
}

func checkRows(r *verify.Report) [][]string {
	var rows [][]string
	for _, c := range r.Checks {
		row := []string{string(c.Name), "ok", ""}
		if noun := compared[c.Name]; c.Count > 0 {
			row[2] = Plural(c.Count, noun[0], noun[1:]...)
		}
		switch c.State {
		case verify.Failed:
			row[1] = "REFUSED"
		case verify.Skipped:
			row[1], row[2] = "-", whyWords[c.Why]
		}
		rows = append(rows, row)
	}
	return rows
}

// whyWords say why something was not checked.
var whyWords = map[verify.Why]string{
	verify.WhyNoKeys: "no image keys were given", verify.WhyOtherKey: "a signature by another key", verify.WhyNoImage: "there is no whole image to look into",
	verify.WhyNoSet: "only an image was named, not its set", verify.WhyNoFile: "the file is not beside the manifest",
	verify.WhyRefused: "what holds it was refused", verify.WhyNoCert: "whether firmware trusts the signer: no db certificate was given",
	verify.WhyUnsigned: "it has no signature", verify.WhyNoRoot: "the release has no root payload",
	verify.WhyMachine: "it belongs to the machine", verify.WhyOtherSlot: "it holds another release",
	verify.WhyFreeSpace: "no partition covers it", verify.WhyDigestOnly: "its digest was compared, not what it says",
	verify.WhyHostGUIDs: "GUIDs are of this host", verify.WhyNoOther: "there are no other containers of the disk",
	verify.WhyNotSealed: "the machines do not encrypt their data", verify.WhyNoRules: "this ingot does not know what the stub measures",
}

func noteWords(n verify.Note) string {
	s := string(n.Check)
	if n.What != "" {
		s += ", " + n.What
	}
	s += ": " + whyWords[n.Why]
	if n.Got != "" {
		s += " (" + n.Got + ")"
	}
	return s
}

// codeWords say what is wrong; docs/verify.md explains them.
var codeWords = map[verify.Code]string{
	verify.ManifestMissing: "there is no manifest", verify.ManifestMalformed: "the manifest cannot be read", verify.ManifestInconsistent: "the manifest contradicts itself",
	verify.EnvelopeMissing: "the manifest is not signed", verify.EnvelopeMalformed: "the signature file is not as ingot writes it",
	verify.EnvelopeType: "it signs something else than a manifest", verify.EnvelopeUntrusted: "too few trusted keys have signed",
	verify.EnvelopeTestKey:   "TEST keys do not count for this environment",
	verify.EnvelopeSignature: "a signature does not hold", verify.EnvelopePayload: "the manifest is not what was signed",
	verify.FileMissing: "the file is missing", verify.FileStranger: "the manifest does not know the file", verify.FileKind: "not a regular file",
	verify.FileSize: "the size differs", verify.FileDigest: "the content differs",
	verify.DiskSize: "the size of the disk differs", verify.DiskRelease: "no boot partition holds this release", verify.DiskSlack: "bytes where there should be none",
	verify.TableMBR: "the protective MBR differs", verify.TablePrimary: "the primary partition table differs", verify.TableBackup: "the backup partition table differs",
	verify.PartitionDigest: "the content differs", verify.PartitionFormat: "the file system cannot be read",
	verify.BootMissing: "the boot file is not there", verify.BootMalformed: "not a boot file with one meaning", verify.BootSection: "the section differs", verify.BootCmdline: "the command line differs",
	verify.SignatureMissing: "no Secure Boot signature", verify.SignatureMalformed: "the Secure Boot signature cannot be read",
	verify.SignatureDigest: "the Secure Boot signature is of another program", verify.SignatureInvalid: "the Secure Boot signature does not hold",
	verify.SignatureKey:       "the Secure Boot signature is by another key",
	verify.InitramfsMalformed: "the initramfs cannot be read", verify.InitramfsContents: "the entry differs", verify.InitramfsIdentity: "it is of another release",
	verify.RootMalformed: "the root file system cannot be read", verify.RootHash: "the root hash differs", verify.RootVerity: "the hash tree cannot be read",
	verify.SBOMMalformed: "the SBOM cannot be read", verify.SBOMIdentity: "the SBOM is of another release", verify.SBOMFiles: "the SBOM and the image differ",
	verify.ProvenanceMalformed: "the provenance cannot be read", verify.ProvenanceIdentity: "the provenance is of another build", verify.ProvenanceOutputs: "the provenance and the files differ",
	verify.ReferenceMalformed: "the reference cannot be read", verify.ReferenceDiffers: "the reference is not what this image measures",
	verify.PolicyMalformed: "the policy signatures cannot be read", verify.PolicyDiffers: "the policy signatures are of another release", verify.PolicySignature: "a policy signature does not hold",
	verify.ContainerFormat: "the container cannot be read", verify.ContainerDisk: "the disk in it differs from the image",
	verify.NothingChecked: "nothing was checked",
}

// maxShown is how many refusals are said; --json has all.
const maxShown = 5

// refusal turns the refusals into one error, the most exact one first.
func refusal(r *verify.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is refused", r.Path)
	for i, x := range r.Refusals {
		if i == maxShown {
			fmt.Fprintf(&b, "\n  and %d more: --json lists all", len(r.Refusals)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s: %s", printable(placeWords(x.Place)), printable(refusalWords(x)))
	}
	return &Error{Code: CodeRefused, Err: fmt.Errorf("%s", b.String()), Hint: refusalHint(r)}
}

func placeWords(p verify.Place) string {
	s := strings.Join(append([]string{p.File}, p.Path...), " → ")
	if p.Offset != nil {
		s += fmt.Sprintf(", byte %d", *p.Offset)
	}
	return s
}

func refusalWords(x verify.Refusal) string {
	s := fmt.Sprintf("%s [%s]", codeWords[x.Code], x.Code)
	switch {
	case x.Want != "" && x.Got != "":
		s += fmt.Sprintf(": expected %s, got %s", x.Want, x.Got)
	case x.Want != "":
		s += ": expected " + x.Want
	case x.Got != "":
		s += ": got " + x.Got
	}
	if x.Cause != "" {
		s += ": " + strings.ReplaceAll(x.Cause, "\n", "; ")
	}
	return s
}

// refusalHint says what to do about the first refusal.
func refusalHint(r *verify.Report) string {
	x := r.Refusals[0]
	inner := func(words ...string) bool {
		return len(x.Place.Path) > 0 && slices.Contains(words, x.Place.Path[0])
	}
	switch {
	case x.Code == verify.ManifestMissing:
		return "name an image set (OUT/NAME-VERSION as ingot build prints it), or --manifest OUT/NAME-VERSION for an image or a disk"
	case x.Code == verify.EnvelopeMissing:
		return "ingot build --keys DIR signs; --unsigned checks everything but signatures"
	case x.Code == verify.EnvelopeUntrusted:
		return "ingot keys list DIR prints the fingerprint of an image key"
	case x.Code == verify.EnvelopeTestKey:
		return "sign it with real keys: ingot build --keys DIR --environment NAME refuses TEST keys"
	case x.Code == verify.FileStranger:
		return "move it out of the directory: nobody vouches for it"
	case x.Code == verify.SignatureKey:
		return "--db PEM names another certificate that firmware trusts"
	case r.Kind == verify.KindImage && (x.Code == verify.DiskSize || x.Code == verify.PartitionDigest && inner("state", "data")):
		return "--disk, if this is the disk of a machine that has run"
	case r.Kind == verify.KindDisk && slices.ContainsFunc(r.Refusals, otherGUID):
		return "--host-id ID, if the disk was written by ingot flash --rekey"
	}
	return "do not use it: take it from where it was built, or build it again"
}

// otherGUID tells a table whose GUIDs differ: those of a host, perhaps.
func otherGUID(x verify.Refusal) bool {
	n := len(x.Place.Path)
	return (x.Code == verify.TablePrimary || x.Code == verify.TableBackup) && n > 0 && strings.HasSuffix(x.Place.Path[n-1], "GUID")
}
