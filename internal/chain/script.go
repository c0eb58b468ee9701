package chain

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/boot/cmdline"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// ErrWord: iPXE would not hand a word of a command line on as it is.
var ErrWord = errors.New("iPXE cannot pass it on")

// BIOSScript has iPXE load kernel and initrd and start the kernel with the release's
// command line. Where that fails, iPXE ends with an error, and the BIOS tries its next
// boot device.
func (p *Parts) BIOSScript() (string, error) {
	words, err := words(p.Cmdline)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(head)
	b.WriteString(line(append([]string{"kernel", p.Dir + Kernel}, words...)))
	if p.Microcode != nil { // before the initrd: the kernel looks for it in the first archive
		b.WriteString(line([]string{"initrd", p.Dir + Microcode}))
	}
	b.WriteString(line([]string{"initrd", p.Dir + Initrd}))
	b.WriteString(line([]string{"boot"}))
	return b.String() + tail, nil
}

// UEFIScript has iPXE start the UKI. iPXE gives every EFI program load options: the
// name of the image, and behind it the arguments. Without Secure Boot systemd-stub takes
// them in place of the embedded command line. So the image is given the first word of
// that command line as its name and the other words as arguments, and the load options
// are the command line again, word for word.
func (p *Parts) UEFIScript() (string, error) {
	words, err := words(p.Cmdline)
	if err != nil {
		return "", err
	}
	if len(words) == 0 {
		return "", fmt.Errorf("write iPXE script: an empty command line: %w", ErrWord)
	}
	args := append([]string{"chain", "--name", words[0], p.Dir + p.UKI}, words[1:]...)
	return head + line(args) + tail, nil
}

// ScriptFor is the script for iPXE on firmware of that kind.
func (p *Parts) ScriptFor(a netboot.Arch) (string, error) {
	if a.UEFI() {
		return p.UEFIScript()
	}
	return p.BIOSScript()
}

const head = "#!ipxe\n"

// tail ends iPXE with an error: firmware goes on with its next boot option. A script
// that just ended would leave some builds in iPXE's shell.
const tail = ":failed\necho This machine could not be booted by the server.\nexit 1\n"

func line(words []string) string { return strings.Join(words, " ") + " || goto failed\n" }

// words are the words of a command line as iPXE gives them on, with one space between
// them. It has no quoting: it splits at white space, takes ${NAME} for a variable, a
// word that begins with # for a comment, and || && ; for ends of a command
// (core/exec.c).
func words(text string) ([]string, error) {
	if len(text) > cmdline.MaxLen {
		return nil, fmt.Errorf("write iPXE script: a command line of %d bytes, the kernel takes %d", len(text), cmdline.MaxLen)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r > '~' }); i >= 0 { // 0xa0 would be white space to the kernel
		return nil, fmt.Errorf("write iPXE script: command line, byte %d: %w", i, ErrWord)
	}
	var out []string
	for _, w := range cmdline.Parse(text).Words {
		raw := w.Text
		if err := passes(raw); err != nil {
			return nil, fmt.Errorf("write iPXE script: command line word %q: %w", raw, err)
		}
		out = append(out, strings.Split(raw, " ")...)
	}
	for _, x := range out {
		if x == "" || x == "||" || x == "&&" || x == ";" || x[0] == '#' {
			return nil, fmt.Errorf("write iPXE script: command line word %q: %w", x, ErrWord)
		}
	}
	if len(out) > 0 && out[0][0] == '-' {
		return nil, fmt.Errorf("write iPXE script: command line begins with %q: %w", out[0], ErrWord)
	}
	return out, nil
}

func passes(word string) error {
	for i := range len(word) {
		if word[i] < ' ' || word[i] > '~' {
			return ErrWord
		}
	}
	if strings.Contains(word, "${") {
		return ErrWord
	}
	return nil
}
