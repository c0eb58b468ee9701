// Command mortal ends the machine that it runs on: POST /panic, /exit or /hang.
package main

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "alive") })
	for name, end := range map[string]func() error{"/panic": panicKernel, "/exit": endInit, "/hang": freezeInit} {
		http.HandleFunc("POST "+name, func(w http.ResponseWriter, r *http.Request) {
			go func() {
				time.Sleep(200 * time.Millisecond) // the answer goes out first
				log.Printf("%s: %v", name, end())
			}()
		})
	}
	log.Fatal(http.ListenAndServe(":8080", nil))
}

func panicKernel() error { return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0) }

// endInit sends a signal that the Go runtime ends a program for.
func endInit() error { return syscall.Kill(1, syscall.SIGQUIT) }

// freezeInit makes PID 1 stand still: nobody can stop it by a signal, but a control
// group can.
func freezeInit() error {
	const group = "/sys/fs/cgroup/frozen"
	return errors.Join(
		os.MkdirAll(group, 0o755),
		os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("1"), 0),
		os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte("1"), 0),
	)
}
