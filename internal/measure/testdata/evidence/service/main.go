// Program evidence serves the event logs of firmware and ingot-init and the PCRs
// of all banks, as JSON.
package main

import (
	"encoding/hex"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

type evidence struct {
	Log     []byte                    `json:"log"`
	InitLog []byte                    `json:"initLog"`
	Cmdline string                    `json:"cmdline"`
	PCRs    map[string]map[int]string `json:"pcrs"`
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e, err := read()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(e)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}

func read() (e evidence, err error) {
	if e.Log, err = os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements"); err != nil {
		return e, err
	}
	if e.InitLog, err = os.ReadFile("/run/ingot/measurements"); err != nil {
		return e, err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return e, err
	}
	e.Cmdline = strings.TrimSpace(string(cmdline))
	banks, err := filepath.Glob("/sys/class/tpm/tpm0/pcr-*")
	e.PCRs = map[string]map[int]string{}
	for _, b := range banks {
		pcrs := map[int]string{}
		for i := range 24 {
			text, err := os.ReadFile(filepath.Join(b, strconv.Itoa(i)))
			if err != nil {
				return e, err
			}
			value, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil {
				return e, err
			}
			pcrs[i] = hex.EncodeToString(value)
		}
		e.PCRs[strings.TrimPrefix(filepath.Base(b), "pcr-")] = pcrs
	}
	return e, err
}
