package verifier

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/tpmtest"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// bootServer stands for package dispatch: machines by MAC address, and whose they are.
type bootServer struct {
	host  map[string]string
	moves string // whose all are after an order to end a quarantine
	told  []context.Context
}

func (b *bootServer) Attested(ctx context.Context, _ *fleet.Host, _ *attest.Verdict, _ string) {
	b.told = append(b.told, ctx)
}
func (*bootServer) Lines(context.Context) ([]BootLine, error) { return nil, nil }

func (b *bootServer) Boot(_ context.Context, name string) (*BootDetail, error) {
	d := &BootDetail{Name: name, Host: name}
	if strings.Contains(name, ":") {
		d.Host = b.host[name]
	}
	for mac, host := range b.host {
		if mac == name || host == name {
			d.Machines = append(d.Machines, BootMachine{BootLine: BootLine{MAC: mac, Host: host}})
		}
	}
	return d, nil
}

func (b *bootServer) Order(_ context.Context, _ string, o BootOrder, _ string) error {
	switch o.Action {
	case OrderNoOnce:
		return &updateapi.Error{Code: "boot.ticket", Detail: "there is no ticket"}
	case OrderUnquarantine:
		for mac := range b.host {
			b.host[mac] = b.moves
		}
	}
	return nil
}

// TestOrdersAreRecorded: who ordered what of a host's boots is in its record, by its name or
// by an address of it; what was refused is not, nor what is of no host.
func TestOrdersAreRecorded(t *testing.T) {
	const mac, stranger = "52:54:00:12:34:56", "52:54:00:00:00:01"
	boots := &bootServer{host: map[string]string{mac: "a", stranger: ""}, moves: "b"}
	s := serve(t, func(o *Options) { o.Boots = boots })
	for _, name := range []string{"a", "b"} {
		if _, code := boot(t, tpmtest.Blank(t)).enrol(s.channel(), name); code != "" {
			t.Fatal(code)
		}
	}
	order := func(name string, o BootOrder) error {
		_, err := s.operator().Order(t.Context(), name, o)
		return err
	}
	for _, name := range []string{"a", mac, stranger, "not-enrolled"} {
		if err := order(name, BootOrder{Action: OrderOnce, Boot: "install:hello", TTL: 7200, Force: true}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := order("a", BootOrder{Action: OrderNoOnce}); err == nil {
		t.Error("what the boot server refuses is taken")
	}
	if err := order(mac, BootOrder{Action: OrderUnquarantine}); err != nil {
		t.Fatal(err)
	}
	once := "boot-once install:hello for 2h0m0s, over a disk with a valid journal"
	for host, want := range map[string][]string{"a": {once, once + ", of " + mac, "unquarantine, of " + mac}, "b": {"unquarantine, of " + mac}} {
		if got := s.orders(host); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

// TestVerdictIsTold: the boot server is told a verdict to the end, also when the machine does
// not wait for the answer.
func TestVerdictIsTold(t *testing.T) {
	boots := new(bootServer)
	_, m, c := joined(t, func(o *Options) { o.Boots = boots })
	if _, code := m.attest(c, "a"); code != "" {
		t.Fatal(code)
	}
	if len(boots.told) != 1 || boots.told[0].Done() != nil {
		t.Errorf("told %d verdicts; want one that does not end with the request", len(boots.told))
	}
}

// orders are those in the record of a host, each by alice; the chain must hold.
func (s *served) orders(host string) (list []string) {
	s.t.Helper()
	var chain audit.Chain
	err := s.store.Records(context.Background(), fleet.Query{Host: host}, func(line []byte) error {
		r, err := chain.Next(line)
		if err == nil && r.Kind == audit.KindOrder {
			if list = append(list, r.Detail); r.By != "alice" || r.Time.IsZero() {
				s.t.Errorf("%s", line)
			}
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	return list
}
