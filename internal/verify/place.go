package verify

// placeInFile says where a file of the set differs, as far as it is known.
func (v *verifier) placeInFile(f *setFile) (Place, error) { return at(f.entry.Name), nil }

// placeInPartition says where a partition differs: what is there, and the
// offset in the partition, -1 when that is not known.
func (v *verifier) placeInPartition(p *partFacts) ([]string, int64, error) { return nil, -1, nil }
