// Program prover answers GET /evidence?nonce=HEX with what ingot attest collect
// prints on this machine.
package main

import (
	"bytes"
	"log"
	"net/http"
	"os/exec"
)

func main() {
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/evidence", func(w http.ResponseWriter, r *http.Request) {
		var stderr bytes.Buffer
		cmd := exec.Command("/bin/ingot", "attest", "collect", "--nonce", r.FormValue("nonce"))
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			http.Error(w, err.Error()+"\n"+stderr.String(), http.StatusInternalServerError)
			return
		}
		w.Write(out)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
