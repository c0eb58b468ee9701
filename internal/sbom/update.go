package sbom

import "fmt"

// Update takes digests and sizes of files that were made anew, as boot files
// are when they get a signature. Every file must be in the inventory, and every
// file of their partitions among them, so that nothing keeps an old digest.
func (v *Inventory) Update(files []Content) error {
	fresh, partitions := map[string]Content{}, map[string]bool{}
	for _, f := range files {
		if err := f.check(); err != nil {
			return fmt.Errorf("update inventory: file %s:%s: %w", f.Partition, f.Path, err)
		}
		fresh[f.Partition+":"+f.Path], partitions[f.Partition] = f, true
	}
	for i := range v.Components {
		for j := range v.Components[i].Files {
			old := &v.Components[i].Files[j]
			key := old.Partition + ":" + old.Path
			f, ok := fresh[key]
			switch {
			case ok:
				old.SHA256, old.SHA1, old.Size = f.SHA256, f.SHA1, f.Size
				delete(fresh, key)
			case partitions[old.Partition]:
				return fmt.Errorf("update inventory: file %s is gone", key)
			}
		}
	}
	for key := range fresh {
		return fmt.Errorf("update inventory: file %s belongs to no component", key)
	}
	return nil
}
