// Command actor plays the services of this appliance.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var parts = map[string]func(arg string){
	"moody": moody, "flaky": flaky, "mirror": mirror, "once": once, "stubborn": stubborn, "check": check,
	"child": func(string) { time.Sleep(time.Hour) },
}

func main() {
	arg := ""
	if len(os.Args) > 2 {
		arg = os.Args[2]
	}
	parts[os.Args[1]](arg)
}

func serve(addr string) { log.Fatal(http.ListenAndServe(addr, nil)) }

// moody answers its health check two seconds after the start; POST /sick and
// /well change its mind.
func moody(addr string) {
	var well atomic.Bool
	time.AfterFunc(2*time.Second, func() {
		log.Print("well for the first time")
		well.Store(true)
	})
	http.HandleFunc("POST /sick", func(http.ResponseWriter, *http.Request) { well.Store(false) })
	http.HandleFunc("POST /well", func(http.ResponseWriter, *http.Request) { well.Store(true) })
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			http.Error(w, "not today", http.StatusServiceUnavailable)
		}
	})
	serve(addr)
}

// flaky counts its starts in its working directory.
func flaky(addr string) {
	f, err := os.OpenFile("starts", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(f, "x")
	starts, err := f.Seek(0, io.SeekEnd)
	if err != nil || starts <= 3 {
		log.Fatalf("start %d is not to last: %v", starts, err)
	}
	serve(addr)
}

// mirror tells how it was started and what else runs.
func mirror(addr string) {
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		status, _ := os.ReadFile("/proc/self/status")
		group, _ := os.ReadFile("/proc/self/cgroup")
		dir, _ := os.Getwd()
		fmt.Fprintf(w, "%sCgroup:\t%sDir:\t%s\nYear:\t%d\nEnv:\t%q\n", status, group, dir, time.Now().Year(), os.Environ())
	})
	http.HandleFunc("GET /children", func(w http.ResponseWriter, _ *http.Request) {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range all {
			if line, _ := os.ReadFile(name); strings.Contains(string(line), "child") {
				fmt.Fprintln(w, name)
			}
		}
	})
	serve(addr)
}

func once(string) { log.Print("done") }

// stubborn ignores SIGTERM. POST /panic lets it die as Go programs do, with a
// child in another session still running.
func stubborn(addr string) {
	signal.Ignore(syscall.SIGTERM)
	http.HandleFunc("POST /panic", func(w http.ResponseWriter, _ *http.Request) {
		child := exec.Command(os.Args[0], "child")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(w, child.Process.Pid)
		go func() {
			time.Sleep(200 * time.Millisecond) // the answer goes out first
			panic("told to")
		}()
	})
	serve(addr)
}

func check(addr string) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		log.Fatal(err)
	}
	c.Close()
}
