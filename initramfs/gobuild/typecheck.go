package gobuild

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"

	"golang.org/x/tools/go/packages"
)

// checker type-checks packages from source. Of everything but the commands it
// reads declarations only, which takes a fraction of the time that
// go/packages, reading every body, would take, and it runs no other program.
type checker struct {
	fset  *token.FileSet
	sizes types.Sizes
	done  map[string]*types.Package
	nodes map[string]*packages.Package // the import graph as gobusybox wants it
}

// typecheck returns the commands in the form that gobusybox rewrites. pkgs are
// in the order of go list -deps: imports first.
func typecheck(ctx context.Context, pkgs []*listed, commands []string, arch string) (map[string]*packages.Package, error) {
	c := &checker{
		fset:  token.NewFileSet(),
		sizes: types.SizesFor("gc", arch),
		done:  map[string]*types.Package{"unsafe": types.Unsafe},
		nodes: map[string]*packages.Package{},
	}
	out := map[string]*packages.Package{}
	for _, p := range pkgs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		command := slices.Contains(commands, p.ImportPath)
		if command && p.Name != "main" {
			return nil, fmt.Errorf("%s is package %s: want a main package", p.ImportPath, p.Name)
		}
		node, err := c.check(p, command)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		if command {
			out[p.ImportPath] = node
		}
	}
	for _, path := range commands {
		if out[path] == nil {
			return nil, fmt.Errorf("%s: no Go files for %s", path, arch)
		}
	}
	return out, nil
}

func (c *checker) check(p *listed, command bool) (*packages.Package, error) {
	node := &packages.Package{PkgPath: p.ImportPath, Name: p.Name, Fset: c.fset, Imports: map[string]*packages.Package{}}
	c.nodes[p.ImportPath] = node
	if p.ImportPath == "unsafe" {
		node.Types = types.Unsafe
		return node, nil
	}
	for _, path := range p.Imports {
		node.Imports[path] = c.nodes[path]
	}
	for name, path := range p.ImportMap {
		node.Imports[name] = c.nodes[path]
	}
	files, err := c.parse(p, command)
	if err != nil {
		return nil, err
	}
	conf := types.Config{Importer: importer{c, p}, Sizes: c.sizes, IgnoreFuncBodies: !command, FakeImportC: true}
	var errs []error
	conf.Error = func(err error) { errs = append(errs, err) }
	if m := p.Module; m != nil && m.GoVersion != "" {
		conf.GoVersion = "go" + m.GoVersion
	}
	info := &types.Info{}
	if command {
		info = &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
			Scopes: map[ast.Node]*types.Scope{}, Implicits: map[ast.Node]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
		}
	}
	c.done[p.ImportPath], _ = conf.Check(p.ImportPath, c.fset, files, info)
	if command {
		fill(node, p, files, info)
		node.Types = c.done[p.ImportPath]
		return node, errors.Join(errs...)
	}
	return node, nil // the compiler finds what is wrong with a dependency
}

func (c *checker) parse(p *listed, command bool) ([]*ast.File, error) {
	mode := parser.SkipObjectResolution
	if command {
		mode |= parser.ParseComments // go:embed, go:build
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), nil, mode)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// fill sets what the rewriting of a command reads.
func fill(node *packages.Package, p *listed, files []*ast.File, info *types.Info) {
	node.Syntax, node.TypesInfo = files, info
	for list, names := range map[*[]string][]string{
		&node.GoFiles: p.GoFiles, &node.EmbedFiles: p.EmbedFiles, &node.OtherFiles: slices.Concat(p.HFiles, p.SFiles, p.SysoFiles),
	} {
		for _, n := range names {
			*list = append(*list, filepath.Join(p.Dir, n))
		}
	}
}

// importer resolves the imports of one package; the standard library's own
// vendored packages have other paths than their import lines say.
type importer struct {
	c *checker
	p *listed
}

func (i importer) Import(path string) (*types.Package, error) {
	if mapped, ok := i.p.ImportMap[path]; ok {
		path = mapped
	}
	if pkg := i.c.done[path]; pkg != nil {
		return pkg, nil
	}
	return nil, fmt.Errorf("package %s is not listed", path)
}
