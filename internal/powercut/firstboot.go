package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
)

// FirstBoot is what the first boot of a flashed disk writes to it: the partition
// table for the size of the disk, and the data file system (S2).
type FirstBoot struct {
	Ops           []Op
	before, after *Block
	old, new      gpt.Table
}

// FirstBootState is what a cut in a first boot leaves.
type FirstBootState struct {
	Row   string // P25 to P28
	Op    int    // index in FirstBoot.Ops
	Where string
	Disk  *Block
}

// RecordFirstBoot flashes a layout to a disk of size bytes and records what the
// first boot writes before it mounts the data partition. The disk was used before:
// it has no zeros behind the first MiB of the data partition, which flash clears.
func RecordFirstBoot(l partition.Layout, size int64) (*FirstBoot, error) {
	data, ok := l.Part(partition.Data)
	if !ok {
		return nil, fmt.Errorf("record first boot: no partition %s", partition.Data)
	}
	b := NewBlock(size)
	used := bytes.Repeat([]byte{0xa5}, pageSize)
	for at := data.Start + 1<<20; at < size; at += pageSize {
		if _, err := b.WriteAt(used[:min(pageSize, size-at)], at); err != nil {
			return nil, err
		}
	}
	if err := l.Table().Write(b); err != nil {
		return nil, err
	}
	f := &FirstBoot{before: b.clone()}
	var err error
	if f.old, _, err = gpt.Read(b, size); err != nil {
		return nil, err
	}
	b.log = &f.Ops
	if f.new, err = bootTable(b); err == nil {
		err = bootData(b, f.new)
	}
	f.after = b.clone()
	return f, err
}

// rows name what a cut in a step of the table is: P25 in its backup copy, P26
// between the copies, P27 in the primary copy.
var tableRows = map[string]string{"backup array": "P25", "backup header": "P25", "protective mbr": "P26", "primary array": "P27", "primary header": "P27"}

// bootTable does to the table of a disk what ingot-init does, by its code.
func bootTable(b *Block) (gpt.Table, error) {
	t, info, err := gpt.Read(b, b.size)
	if err != nil {
		return t, err
	}
	if info.FromBackup { // disk.Disk.Mend
		steps, err := gpt.Repair(t)
		if err == nil {
			err = gpt.Apply(b, steps)
		}
		if err != nil {
			return t, err
		}
		info = gpt.Info{BackupOffset: info.BackupOffset}
	}
	t, steps, err := disk.PlanTable(t, info, b.size) // disk.Disk.Grow
	for _, s := range steps {
		if err == nil {
			b.row = tableRows[s.Name]
			err = gpt.Apply(b, []gpt.Step{s})
		}
	}
	return t, err
}

// bootData makes the data file system as ingot-init does.
func bootData(b *Block, t gpt.Table) error {
	b.row = "P28"
	data, err := dataOf(b, t)
	if err != nil {
		return err
	}
	switch content, _, err := disk.Probe(data); {
	case err != nil:
		return err
	case content == disk.Foreign:
		return errors.New("the data partition holds something that is not ext4")
	case content == disk.Blank:
		return disk.Format(data, data.size)
	}
	return nil
}

func dataOf(b *Block, t gpt.Table) (window, error) {
	i := slices.IndexFunc(t.Partitions, func(p gpt.Partition) bool { return p.Name == partition.Data })
	if i < 0 {
		return window{}, fmt.Errorf("no partition %s", partition.Data)
	}
	return window{b, t.Partitions[i].Start, t.Partitions[i].Size}, nil
}

// States calls fn for every state that a cut can leave, as History.States does.
// The disk is fn's to read until it returns.
func (f *FirstBoot) States(fn func(FirstBootState) error) error {
	b := f.before.clone()
	for i := 0; i < len(f.Ops); i++ {
		var sectors []Op
		at := i
		for ; i < len(f.Ops) && f.Ops[i].Kind == Write; i++ {
			o := f.Ops[i]
			for n := 0; n < len(o.Data); n += sector {
				sectors = append(sectors, Op{Row: o.Row, Off: o.Off + int64(n), Data: o.Data[n : n+sector]})
			}
		}
		if err := cutBlock(b, sectors, at, fn); err != nil {
			return err
		}
	}
	return nil
}

func cutBlock(b *Block, sectors []Op, at int, fn func(FirstBootState) error) error {
	for _, set := range subsets(len(sectors), uint64(at)) {
		c := b.clone()
		for n, in := range set {
			if in {
				c.put(sectors[n])
			}
		}
		if err := fn(FirstBootState{sectors[0].Row, at, fmt.Sprintf("subset of %d sectors", len(sectors)), c}); err != nil {
			return err
		}
	}
	for n, s := range sectors {
		if err := fn(FirstBootState{s.Row, at, fmt.Sprintf("sector %d of %d", n, len(sectors)), b}); err != nil {
			return err
		}
		b.put(s)
	}
	return nil
}

// Check says what is wrong with a state: firmware has to find the partitions of
// before, the next boot has to make everything whole, and the boot after that
// has nothing to write. format is whether the data file system is made, which
// takes long; without it, only that it would be is checked.
func (f *FirstBoot) Check(s FirstBootState, format bool) error {
	t, _, err := gpt.Read(s.Disk, s.Disk.size)
	if err != nil {
		return fmt.Errorf("firmware finds no partitions: %w", err)
	}
	if !sameTable(t, f.old) && !sameTable(t, f.new) {
		return fmt.Errorf("the table is neither that of before nor the new one: %+v", t.Partitions)
	}
	b := s.Disk.clone()
	if t, err = bootTable(b); err != nil {
		return err
	}
	if err := f.checkTable(b, t); err != nil {
		return err
	}
	if err := f.checkData(b); err != nil || !format {
		return err
	}
	if err := bootData(b, t); err != nil {
		return err
	}
	var log []Op
	b.log = &log
	if t, err = bootTable(b); err == nil {
		err = bootData(b, t)
	}
	if len(log) > 0 && err == nil {
		err = fmt.Errorf("the boot after that writes %d times", len(log))
	}
	return err
}

func sameTable(a, b gpt.Table) bool {
	return a.Disk == b.Disk && slices.Equal(a.Partitions, b.Partitions)
}

// checkTable compares a table that was made whole with the one of a first boot
// without a cut, byte by byte.
func (f *FirstBoot) checkTable(b *Block, t gpt.Table) error {
	if !sameTable(t, f.new) {
		return fmt.Errorf("after the next boot the table is not the new one: %+v", t.Partitions)
	}
	head := 2*int64(t.SectorSize) + 16<<10
	for _, at := range []int64{0, b.size - head} {
		got, want := make([]byte, head), make([]byte, head)
		if _, err := b.ReadAt(got, at); err != nil {
			return err
		}
		if _, err := f.after.ReadAt(want, at); err != nil {
			return err
		}
		if at != 0 { // what is before the backup copy is no business of the table
			got, want = got[t.SectorSize:], want[t.SectorSize:]
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("after the next boot the table differs at %d", at)
		}
	}
	return nil
}

// checkData wants the data partition to be known as empty, or to have every byte.
func (f *FirstBoot) checkData(b *Block) error {
	data, err := dataOf(b, f.new)
	if err != nil {
		return err
	}
	content, super, err := disk.Probe(data)
	if err != nil {
		return err
	}
	if content == disk.Blank {
		return nil
	}
	if content != disk.Ext4 || super.Dirty || super.Errored {
		return fmt.Errorf("the data partition is no file system, and will not be made one: %d, %+v", content, super)
	}
	for i := data.off / pageSize; i < int64(len(f.after.store.pages)); i++ {
		if !bytes.Equal(b.store.pages[i], f.after.store.pages[i]) {
			return fmt.Errorf("the data partition counts as whole, but differs at %d", i*pageSize-data.off)
		}
	}
	return nil
}
