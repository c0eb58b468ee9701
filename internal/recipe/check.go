package recipe

import "os"

// Check finds what would keep an appliance from booting or from doing what its
// recipe says, without building it. The recipe has passed Load or Parse.
func Check(r *Recipe, facts Facts) Errors { return Examine(r, facts).Errors }

// CheckFile reads a recipe and finds everything that is wrong with it, down to
// what Check finds, even when some of it cannot be read. facts is asked once
// what is known about the recipe; nil means nothing. The error is that of
// reading the file; the Recipe is nil when the file is not YAML at all.
func CheckFile(path string, facts func(*Recipe) Facts) (*Recipe, Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Report{}, err
	}
	r, errs := parse(path, data)
	if r == nil {
		return nil, Report{Errors: errs}, nil
	}
	errs = append(errs, fresh(errs, checkLocal(r))...)
	var known Facts
	if facts != nil {
		known = facts(r)
	}
	rep := Examine(r, known)
	rep.Errors = append(errs, fresh(errs, rep.Errors)...)
	rep.Errors.Sort()
	return r, rep, nil
}

// Examine is Check with the warnings, and with the rules that need a fact
// which is not there.
func Examine(r *Recipe, facts Facts) Report {
	e := &examiner{checker: checker{r: r}, facts: facts, image: newContents(r, facts)}
	for _, rule := range []func(){
		e.modulesExist, e.groupsFit, e.neededModules, e.linkDrivers, e.consoles, e.kernelOptions,
		e.commands, e.readableFiles, e.workDirs, e.urootCommands, e.firmwareFiles, e.danglingLinks,
		e.ports, e.smokePorts, e.resolvers, e.stateDirectories, e.oneJob,
		e.stub, e.bootFileSize, e.rootSize, e.bootEntries, e.words, e.expired, e.operators, e.waivers,
	} {
		rule()
	}
	e.errs.Sort()
	e.warnings.Sort()
	return Report{Errors: e.errs, Warnings: e.warnings, Skipped: e.skipped}
}

// examiner collects the findings of the static check.
type examiner struct {
	checker
	facts    Facts
	image    *contents
	warnings Errors
	skipped  []Skipped
}

func (e *examiner) warn(path, hint, format string, args ...any) {
	e.warnings = append(e.warnings, e.r.finding(path, hint, format, args...))
}

func (e *examiner) skip(rule, why string) {
	e.skipped = append(e.skipped, Skipped{rule, why})
}

// kernel returns the kernel's facts, or notes that a rule had to do without.
func (e *examiner) kernel(rule string) *KernelFacts {
	if e.facts.Kernel == nil {
		e.skip(rule, "the kernel package is not in the cache yet: run ingot lock")
	}
	return e.facts.Kernel
}

// kernelName is how messages call the kernel.
func (e *examiner) kernelName() string {
	switch k := e.facts.Kernel; {
	case k != nil && k.Package != "":
		return k.Package
	case e.r.Kernel.File != "":
		return e.r.Kernel.File
	}
	return e.r.Kernel.Package
}
