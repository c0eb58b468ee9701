package recipe

import (
	"bufio"
	"debug/elf"
	"os"
	"strings"
)

// format looks at the first bytes: a script needs its interpreter, an ELF file
// the right processor and, when it is dynamic, its loader.
func (e *examiner) format(at, who, command string, prog entry) {
	first := firstLine(prog)
	if interp, ok := strings.CutPrefix(first, "#!"); ok {
		fields := strings.Fields(interp)
		if len(fields) == 0 {
			e.add(at, "write #!/bin/PROGRAM", "%s runs %s, a script that names no interpreter", who, command)
			return
		}
		found, _ := e.image.resolve(fields[0])
		if found.kind == absent {
			e.add(at, e.commandHint(fields[0]), "%s runs %s, a script for %s, which is not in the image", who, command, fields[0])
		}
		return
	}
	if prog.text != nil || !strings.HasPrefix(first, "\x7fELF") {
		e.add(at, "use an ELF program or a script that begins with #!", "%s runs %s, which is neither a program nor a script", who, command)
		return
	}
	e.elf(at, who, command, prog.local)
}

func firstLine(prog entry) string {
	if prog.text != nil {
		line, _, _ := strings.Cut(*prog.text, "\n")
		return line
	}
	f, err := os.Open(prog.local)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := bufio.NewReaderSize(f, 256).Peek(256) // BINPRM_BUF_SIZE: the kernel looks no further
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

var elfMachines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func (e *examiner) elf(at, who, command, local string) {
	f, err := elf.Open(local)
	if err != nil {
		e.add(at, "build it again", "%s runs %s, which is a damaged ELF file", who, command)
		return
	}
	defer f.Close()
	if f.Machine != elfMachines[e.r.Arch] {
		is := f.Machine.String()
		for arch, m := range elfMachines {
			if m == f.Machine {
				is = arch
			}
		}
		e.add(at, "build it for linux/"+e.r.Arch, "%s runs %s, which is for %s, the recipe's arch is %s", who, command, is, e.r.Arch)
		return
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return
		}
		loader := strings.TrimRight(string(b), "\x00")
		if found, _ := e.image.resolve(loader); found.kind == absent {
			e.add(at, "link it statically (CGO_ENABLED=0), or add the loader and its libraries with files: or root:", "%s runs %s, which is dynamic and needs %s: not in the image", who, command, loader)
		}
	}
}
