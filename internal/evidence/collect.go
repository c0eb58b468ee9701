package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/regular"
)

// Where Linux and ingot-init have what evidence is made of.
const (
	securityFS = "sys/kernel/security"
	tpmClass   = "sys/class/tpm/tpm0"
	dmi        = "sys/class/dmi/id"
	initLog    = "run/ingot/measurements"
	logName    = "binary_bios_measurements"
)

// Source says where evidence is collected. The zero value but for the nonce is
// the machine that the program runs on.
type Source struct {
	Device   string // character device or an emulator's socket; default: tpm.Device
	EventLog string // default: the one that the kernel shows for its first TPM
	InitLog  string // default: /run/ingot/measurements, when there is one
	Nonce    []byte // of whoever asks
	Root     string // of the file system, for tests; default "/"
}

// attempts bounds how often a quote is made again because ingot-init has
// measured something in between.
const attempts = 5

// Collect quotes all registers of attest.DefaultPCRs in every active bank but
// SHA-1 and puts the logs beside them. Nothing in the TPM changes.
func Collect(s Source) (*attest.Evidence, error) {
	s = s.withDefaults()
	t, err := s.open()
	if err != nil {
		return nil, err
	}
	e, err := s.collect(t)
	if err = errors.Join(err, t.Close()); err != nil {
		return nil, fmt.Errorf("collect evidence: %w", err)
	}
	e.Firmware = s.firmware()
	return e, nil
}

func (s Source) withDefaults() Source {
	if s.Root == "" {
		s.Root = "/"
	}
	if s.Device == "" {
		s.Device = tpm.Device
	}
	return s
}

// path is a file of the machine.
func (s Source) path(elem ...string) string {
	return filepath.Join(append([]string{s.Root}, elem...)...)
}

// open opens the TPM, or says why there is none.
func (s Source) open() (*tpm.TPM, error) {
	t, err := tpm.Open(s.Device)
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, hinted("run it as root, or join the group that owns the device: usermod -aG tss $USER, then log in again", "%w", err)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, hinted("another program may hold it: "+tpm.Device+" can be shared, /dev/tpm0 cannot", "%w", err)
	}
	major, _ := os.ReadFile(s.path(tpmClass, "tpm_version_major"))
	switch version := strings.TrimSpace(string(major)); {
	case s.Device != tpm.Device:
		return nil, hinted("name a character device, or the data socket of swtpm", "%w", err)
	case version == "1":
		return nil, hinted("TPM 2.0 is needed; some firmware can switch the TPM to it", "%w: this machine has a TPM 1.2", err)
	case version == "2":
		return nil, hinted("the kernel has a TPM and no device for it: is /dev a devtmpfs?", "%w", err)
	}
	return nil, hinted("switch the TPM on in the firmware's setup (PTT, fTPM); its driver may be a module: modprobe tpm_crb tpm_tis", "%w: the kernel knows no TPM", err)
}

// eventLog is the firmware's log, in which nothing changes after the boot.
func (s Source) eventLog() ([]byte, error) {
	path := s.EventLog
	if path == "" {
		path = s.path(securityFS, "tpm0", logName)
	}
	b, err := regular.Read(path, eventlog.MaxSize)
	if err != nil {
		return nil, s.noLog(err)
	}
	if _, err := eventlog.Parse(b); err != nil {
		return nil, hinted("name the binary log, as the kernel hands it over", "read %s: %w", path, err)
	}
	return b, nil
}

func (s Source) noLog(err error) error {
	mounted, _ := os.ReadDir(s.path(securityFS))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return hinted("only root may read the event log: run it as root, or name a copy with --event-log", "read event log: %w", err)
	case s.EventLog != "" || !errors.Is(err, fs.ErrNotExist):
		return hinted("--event-log takes a file as "+logName+" is", "read event log: %w", err)
	case len(mounted) == 0:
		return hinted("mount -t securityfs securityfs /sys/kernel/security", "read event log: %w: securityfs is not mounted", err)
	}
	return hinted("the kernel shows a log only when UEFI firmware handed one over (not after legacy boot, and not in most containers)", "read event log: %w", err)
}

// collect asks the TPM.
func (s Source) collect(t *tpm.TPM) (*attest.Evidence, error) {
	log, err := s.eventLog()
	if err != nil {
		return nil, err
	}
	wants, err := wanted(t)
	if err != nil {
		return nil, err
	}
	ek, err := t.EndorsementKey()
	if err != nil {
		return nil, err
	}
	if err := t.Flush(&ek.Key); err != nil {
		return nil, err
	}
	ak, err := t.AttestationKey()
	if err != nil {
		return nil, err
	}
	e := &attest.Evidence{Format: attest.Format, Nonce: s.Nonce, AK: ak.Public, EK: ek.Public, EKCertificate: ek.Certificate, EventLog: log}
	if err = s.quote(t, ak, e, wants); err == nil {
		err = s.floor(t, ak, e)
	}
	if err = errors.Join(err, t.Flush(ak)); err != nil {
		return nil, err
	}
	e.Clock, err = t.Clock()
	return e, err
}

// wanted are the default registers in every bank that is worth quoting.
func wanted(t *tpm.TPM) ([]tpm.Want, error) {
	banks, err := t.Banks()
	if err != nil {
		return nil, err
	}
	var wants []tpm.Want
	for _, b := range banks {
		if b != pcr.SHA1 {
			wants = append(wants, tpm.Want{Bank: b, PCRs: attest.DefaultPCRs})
		}
	}
	if len(wants) == 0 {
		return nil, hinted("switch the SHA-256 bank on in the firmware's setup; a verifier refuses SHA-1", "the TPM has no active bank but %v", banks)
	}
	return wants, nil
}

// quote quotes while ingot-init's log stands still.
func (s Source) quote(t *tpm.TPM, ak *tpm.Key, e *attest.Evidence, wants []tpm.Want) error {
	extra := attest.Challenge{Nonce: s.Nonce}.ExtraData()
	for range attempts {
		before, err := s.initLog()
		if err != nil {
			return err
		}
		q, err := t.Quote(ak, extra, wants...)
		if err != nil {
			return err
		}
		after, err := s.initLog()
		if err != nil {
			return err
		}
		if bytes.Equal(before, after) {
			e.Quote, e.Signature, e.PCRs, e.InitLog = q.Attest, q.Signature, q.PCRs, after
			return nil
		}
	}
	return tpm.ErrChanging
}

// floor certifies the counter of a version floor, where the TPM has one. From
// where it counts only the machine's data volume tells.
func (s Source) floor(t *tpm.TPM, ak *tpm.Key, e *attest.Evidence) error {
	counter, err := t.Counter(tpm.FloorIndex)
	if errors.Is(err, tpm.ErrNoCounter) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := t.CertifyCounter(ak, counter, attest.Challenge{Nonce: s.Nonce}.ExtraData())
	if err != nil {
		return err
	}
	e.Floor = &attest.FloorProof{Attest: c.Attest, Signature: c.Signature}
	return nil
}

// initLog is what ingot-init has extended; other systems have none.
func (s Source) initLog() ([]byte, error) {
	path := s.InitLog
	if path == "" {
		path = s.path(initLog)
	}
	b, err := regular.Read(path, eventlog.MaxSize)
	if errors.Is(err, fs.ErrNotExist) && s.InitLog == "" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read log of ingot-init: %w", err)
	}
	return b, nil
}

// firmware is what the machine's tables say, for people.
func (s Source) firmware() string {
	var words []string
	for _, name := range []string{"bios_vendor", "bios_version", "bios_date"} {
		b, err := regular.Read(s.path(dmi, name), 256)
		if text := strings.TrimSpace(string(b)); err == nil && text != "" {
			words = append(words, text)
		}
	}
	return strings.Join(words, " ")
}
