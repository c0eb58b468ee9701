package nvram

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Chain is what the firmware would start of some entries. Entries are counted
// from 0 in the order in which they were asked for.
type Chain struct {
	Right []bool // the entry is there and active
	Order []int  // the entries in the order of BootOrder
	Next  int    // the entry in BootNext; -1: none of them
}

// Chain looks for entries by the partition and file that they load. A title that
// somebody changed does not matter, nor do entries that the firmware has twice.
func (s Store) Chain(entries []Entry) (Chain, error) {
	have, err := s.options()
	if err != nil {
		return Chain{}, err
	}
	at := map[uint16]int{}
	c := Chain{Right: make([]bool, len(entries)), Next: -1}
	for n, h := range have {
		for i, e := range entries {
			if loadsSame(e.Option, h) {
				at[n] = i
				c.Right[i] = c.Right[i] || h.Attributes&efivar.Active != 0
			}
		}
	}
	for _, n := range s.order() {
		if i, ok := at[n]; ok && have[n].Attributes&efivar.Active != 0 && !slices.Contains(c.Order, i) {
			c.Order = append(c.Order, i)
		}
	}
	if b, err := s.Get(efivar.BootNext, efivar.Global); err == nil {
		if n, err := efivar.ParseNumber(b); err == nil {
			if i, ok := at[n]; ok {
				c.Next = i
			}
		}
	}
	return c, nil
}

// order is BootOrder; a broken one counts as none.
func (s Store) order() []uint16 {
	b, err := s.Get(efivar.BootOrder, efivar.Global)
	if err != nil {
		return nil
	}
	order, _ := efivar.ParseOrder(b)
	return order
}

// loadsSame says that two options load the same file of the same partition.
func loadsSame(a, b efivar.LoadOption) bool {
	want, ok := a.Path().Partition()
	if !ok {
		return false
	}
	got, ok := b.Path().Partition()
	return ok && got.GUID == want.GUID && strings.EqualFold(a.Path().File(), b.Path().File())
}

// NoNext takes back what Next has set.
func (s Store) NoNext() error { return s.Delete(efivar.BootNext, efivar.Global) }

// Delete removes a variable, and sees that it is gone. That there is none is no
// error.
func (s Store) Delete(name string, vendor gpt.GUID) error {
	file := s.file(name, vendor)
	err := writable(file)
	if err == nil {
		err = os.Remove(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete variable %s: %w", name, explain(err))
	}
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("delete variable %s: %w", name, ErrNotKept)
	}
	return nil
}

// ErrFull and ErrReadOnly are why firmware takes no variable.
var (
	ErrFull     = errors.New("the firmware's variable store is full: delete boot entries or dump-* variables that nobody needs")
	ErrReadOnly = errors.New("the variables of this firmware cannot be written while a system runs")
)

// explain says what an error of efivarfs means on a machine. EINVAL comes from
// firmware that has no SetVariable at run time, or does not like the value.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w (%w)", ErrFull, err)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	}
	return err
}
