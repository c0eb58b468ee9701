package nvram

import (
	"slices"

	"github.com/ingot-os/ingot/boot/efivar"
)

// Place is where entries stand in BootOrder.
type Place int

// The places. What is not ours keeps its order in all of them.
const (
	First         Place = iota // before all others
	BehindNetwork              // behind all that load from the network, before the others
	Kept                       // where they stand, in the wanted order; new ones last
)

// Order puts the entries into BootOrder and keeps what else is there.
func (s Store) Order(ours []uint16, at Place) error {
	order := s.order() // a broken one is replaced
	front := ours
	switch at {
	case Kept:
		return s.setOrder(keep(order, ours))
	case BehindNetwork:
		network, err := s.network(order)
		if err != nil {
			return err
		}
		front = append(network, ours...)
	}
	rest := slices.DeleteFunc(order, func(n uint16) bool { return slices.Contains(front, n) })
	return s.setOrder(append(slices.Clip(front), rest...))
}

func (s Store) setOrder(order []uint16) error {
	return s.Set(efivar.BootOrder, efivar.Global, efivar.BootAttributes, efivar.MarshalOrder(order...))
}

// network are the entries of an order that load from the network.
func (s Store) network(order []uint16) (out []uint16, err error) {
	have, err := s.options()
	for _, n := range order {
		if o, ok := have[n]; ok && o.Path().IsNetwork() {
			out = append(out, n)
		}
	}
	return out, err
}

// keep puts entries where such stand in an order, and the others at its end.
func keep(order, ours []uint16) []uint16 {
	left := ours
	for i, n := range order {
		if len(left) > 0 && slices.Contains(ours, n) {
			order[i], left = left[0], left[1:]
		}
	}
	return append(order, left...)
}
