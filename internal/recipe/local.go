package recipe

import (
	"debug/pe"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// checkLocal looks at the files and directories beside the recipe that it
// names: that they are there, and are what they are used as.
func checkLocal(r *Recipe) Errors {
	c := &checker{r: r}
	c.localKernel()
	if r.Stub.File != "" {
		c.efiProgram("stub.file", r.Stub.File)
	}
	for i, f := range r.Firmware {
		if f.Source != "" {
			c.stat(fmt.Sprintf("firmware[%d].source", i), f.Source)
		}
	}
	for i, p := range r.Go {
		if p.Local() {
			c.goDirectory(fmt.Sprintf("go[%d].package", i), p.Package)
		}
	}
	for i, f := range r.Files {
		c.fileSource(fmt.Sprintf("files[%d]", i), f)
	}
	c.localRoot()
	c.localTrust()
	return c.errs
}

// local is the host's path of a path in the recipe.
func (r *Recipe) local(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.Dir, filepath.FromSlash(name))
}

// stat reports a path that cannot be used; the result is nil then.
func (c *checker) stat(at, name string) fs.FileInfo {
	info, err := os.Stat(c.r.local(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.add(at, "paths are relative to the recipe: "+c.r.local(name), "%s: %s does not exist", at, name)
	case err != nil:
		c.add(at, "", "%s: %v", at, err)
	case !info.IsDir() && !info.Mode().IsRegular():
		c.add(at, "name a regular file or a directory", "%s: %s is neither file nor directory", at, name)
	default:
		return info
	}
	return nil
}

func (c *checker) statFile(at, name string) bool {
	info := c.stat(at, name)
	if info != nil && info.IsDir() {
		c.add(at, "name the file itself", "%s: %s is a directory, not a file", at, name)
		return false
	}
	return info != nil
}

func (c *checker) statDir(at, name string) bool {
	info := c.stat(at, name)
	if info != nil && !info.IsDir() {
		c.add(at, "name a directory", "%s: %s is a file, not a directory", at, name)
		return false
	}
	return info != nil
}

func (c *checker) localKernel() {
	k := c.r.Kernel
	if k.File != "" {
		c.efiProgram("kernel.file", k.File)
	}
	if k.Modules == "" || !c.statDir("kernel.modules", k.Modules) {
		return
	}
	if _, err := os.Stat(filepath.Join(c.r.local(k.Modules), "kernel")); err != nil {
		c.add("kernel.modules", "name the directory lib/modules/VERSION itself", "kernel.modules: %s has no directory kernel, so it holds no modules", k.Modules)
		return
	}
	version := imageVersion(c.r.local(k.File))
	if dir := filepath.Base(filepath.Clean(k.Modules)); version != "" && version != dir {
		c.add("kernel.modules", "use the modules that were built with the kernel", "kernel.modules is for %s, kernel.file is %s", dir, version)
	}
}

// efiProgram wants a PE file for the recipe's processor: a kernel with
// CONFIG_EFI_STUB is one, and so is the stub.
func (c *checker) efiProgram(at, name string) {
	if !c.statFile(at, name) {
		return
	}
	f, err := pe.Open(c.r.local(name))
	if err != nil {
		c.add(at, "use a bzImage (amd64) or an uncompressed Image (arm64) with CONFIG_EFI_STUB", "%s: %s is not an EFI program", at, name)
		return
	}
	defer f.Close()
	want := map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}[c.r.Arch]
	if f.Machine != want && want != 0 {
		c.add(at, "set arch:, or use a file for "+c.r.Arch, "%s: %s is for another processor (PE machine %#x), the recipe's arch is %s", at, name, f.Machine, c.r.Arch)
	}
}

// imageVersion reads the version text of a bzImage: "HdrS" at 0x202 and, at
// 0x20e, the offset of the text less 0x200 (Documentation/arch/x86/boot.rst).
// It is empty for everything else.
func imageVersion(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	var head [0x210]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[0x202:0x206]) != "HdrS" {
		return ""
	}
	text := make([]byte, 128)
	n, err := f.ReadAt(text, 0x200+int64(head[0x20e])+int64(head[0x20f])<<8)
	if err != nil && err != io.EOF {
		return ""
	}
	version, _, _ := strings.Cut(string(text[:n]), " ")
	return version
}

// goDirectory wants a main package inside a module.
func (c *checker) goDirectory(at, name string) {
	if !c.statDir(at, name) {
		return
	}
	dir := c.r.local(name)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return
	}
	pkg := ""
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.PackageClauseOnly)
		if err != nil {
			c.add(at, "", "%s: %v", at, err)
			return
		}
		if pkg = parsed.Name.Name; pkg == "main" {
			break
		}
	}
	switch {
	case pkg == "":
		c.add(at, "name the directory that holds the main package", "%s: %s holds no Go files", at, name)
	case pkg != "main":
		c.add(at, "name the directory of the main package", "%s: %s is package %s, not a program", at, name, pkg)
	case !inModule(dir):
		c.add(at, "run go mod init there", "%s: %s is in no Go module: there is no go.mod there or above", at, name)
	}
}

func inModule(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return true
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return true
		}
		if filepath.Dir(dir) == dir {
			return false
		}
		dir = filepath.Dir(dir)
	}
}

func (c *checker) fileSource(at string, f File) {
	if f.Source == "" {
		return
	}
	info := c.stat(at+".source", f.Source)
	if info != nil && info.IsDir() && f.Mode != 0 {
		c.add(at+".mode", "remove mode:, or list the files one by one", "%s: a source directory keeps the modes of its files", at)
	}
}

func (c *checker) localRoot() {
	root := c.r.Root
	if root == nil {
		return
	}
	if root.Tar != "" {
		c.statFile("root.tar", root.Tar)
	}
	if root.Directory != "" && c.statDir("root.directory", root.Directory) {
		if entries, err := os.ReadDir(c.r.local(root.Directory)); err == nil && len(entries) == 0 {
			c.add("root.directory", "put the root file system into it", "root.directory: %s is empty", root.Directory)
		}
	}
	name, _, _ := strings.Cut(root.OCI, "@")
	if isLocalImage(name) && c.statDir("root.oci", name) {
		if _, err := os.Stat(filepath.Join(c.r.local(name), "index.json")); err != nil {
			c.add("root.oci", "name the directory that holds index.json and oci-layout", "root.oci: %s is no OCI layout: it has no index.json", name)
		}
	}
}
