// The peers program runs go-attestation over evidence that ingot judges too, so
// that both can be measured in one run. It is a module of its own: what it
// needs is no dependency of ingot.
//
//	peers time FILE N    verify the first case N times: nanoseconds and allocations of one
//	peers judge FILE     the ids of the cases that are accepted, one a line
//
// FILE is a JSON array of cases.
package main

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/google/go-attestation/attest"
)

// item is evidence with what its quote must carry.
type item struct {
	ID        string `json:"id"`
	ExtraData []byte `json:"extraData"`
	Evidence  struct {
		AK        []byte                       `json:"ak"`
		Quote     []byte                       `json:"quote"`
		Signature []byte                       `json:"signature"`
		PCRs      map[string]map[string]string `json:"pcrs"`
		EventLog  []byte                       `json:"eventLog"`
	} `json:"evidence"`
}

var algorithms = map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("want: peers time FILE N | judge FILE")
	}
	b, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var items []item
	if err := json.Unmarshal(b, &items); err != nil {
		return err
	}
	switch {
	case args[0] == "judge":
		for _, x := range items {
			if x.verify() == nil {
				fmt.Println(x.ID)
			}
		}
		return nil
	case args[0] == "time" && len(args) == 3 && len(items) > 0:
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return measure(items[0], n)
	}
	return fmt.Errorf("unknown command %q", args)
}

// pcrs are the values as that library takes them.
func (x *item) pcrs() ([]attest.PCR, error) {
	var out []attest.PCR
	for bank, values := range x.Evidence.PCRs {
		for name, value := range values {
			i, err := strconv.Atoi(name)
			if err != nil {
				return nil, err
			}
			digest, err := hex.DecodeString(value)
			if err != nil {
				return nil, err
			}
			out = append(out, attest.PCR{Index: i, Digest: digest, DigestAlg: algorithms[bank]})
		}
	}
	slices.SortFunc(out, func(a, b attest.PCR) int { return a.Index - b.Index })
	return out, nil
}

// verify is the library's whole way: the quote by the key, then the log by the
// values that were quoted.
func (x *item) verify() error {
	pcrs, err := x.pcrs()
	if err != nil {
		return err
	}
	return x.judge(pcrs)
}

func (x *item) judge(pcrs []attest.PCR) error {
	key, err := attest.ParseAKPublic(x.Evidence.AK)
	if err != nil {
		return err
	}
	if err := key.Verify(attest.Quote{Quote: x.Evidence.Quote, Signature: x.Evidence.Signature}, pcrs, x.ExtraData); err != nil {
		return err
	}
	log, err := attest.ParseEventLog(x.Evidence.EventLog)
	if err != nil {
		return err
	}
	_, err = log.Verify(pcrs)
	return err
}

// measure prints processor time and allocations of one verification.
func measure(x item, n int) error {
	pcrs, err := x.pcrs()
	if err != nil {
		return err
	}
	for range 20 { // warm up
		if err := x.judge(slices.Clone(pcrs)); err != nil {
			return err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := processor()
	for range n {
		if err := x.judge(slices.Clone(pcrs)); err != nil {
			return err
		}
	}
	took := processor() - begin
	runtime.ReadMemStats(&after)
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{"nanoseconds": took / int64(n), "allocations": int64(after.Mallocs-before.Mallocs) / int64(n)})
}

// processor is the time in nanoseconds that this process has used.
func processor() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
