package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/pxe/httpboot"
	pxe "github.com/ingot-os/ingot/pxe/netboot"
)

// The loads: a UKI is 20 MB; 500 machines that load it at once, beside nginx; and
// 2,000, which is a hall after a power cut.
const (
	ukiBytes     = 20_000_000
	httpClients  = 500
	httpRounds   = 5
	stormClients = 2000
	ukiName      = "uki.efi"
)

// benchHTTP loads a server with the checks that a release has, and nginx, in turns.
func benchHTTP(ctx context.Context, l *lab, r *report) error {
	root, err := ukiFolder(l.dir)
	if err != nil {
		return err
	}
	ours, err := startHTTP(ctx, l, root, "")
	if err != nil {
		return err
	}
	defer ours.stop()
	c := contest{job: fmt.Sprintf("HTTP Boot: %d clients load a UKI of 20 MB at once", httpClients), other: "nginx", netboot: true}
	nginx, err := debianProgram(ctx, l, "nginx", "usr/sbin/nginx")
	if err != nil {
		c.note = err.Error()
	}
	servers, took := []*httpServer{ours}, []*series{&c.ours, &c.theirs}
	if err == nil {
		theirs, err := startHTTP(ctx, l, root, nginx)
		if err != nil {
			return err
		}
		defer theirs.stop()
		servers = append(servers, theirs)
	}
	for range httpRounds {
		for i, s := range servers {
			o := httpLoad{server: s.addr, path: ukiName, size: ukiBytes, clients: httpClients}.run()
			if o.failed > 0 {
				return fmt.Errorf("%d of %d clients of %s failed: %w", o.failed, httpClients, s.name, o.first)
			}
			took[i].values = append(took[i].values, o.took.Seconds())
		}
	}
	if c.ours.memory, err = process(ours.cmd.Process.Pid).memory(); err != nil {
		return err
	}
	r.compare(c)
	return benchHTTPStorm(ctx, l, r, root)
}

// benchHTTPStorm has each client ask as firmware does: HEAD, and GET on another
// connection.
func benchHTTPStorm(ctx context.Context, l *lab, r *report, root string) error {
	s, err := startHTTP(ctx, l, root, "")
	if err != nil {
		return err
	}
	defer s.stop()
	o := httpLoad{server: s.addr, path: ukiName, size: ukiBytes, clients: stormClients, probe: true}.run()
	if o.failed > 0 {
		return fmt.Errorf("%d of %d clients failed: %w", o.failed, stormClients, o.first)
	}
	memory, err := process(s.cmd.Process.Pid).memory()
	if err != nil {
		return err
	}
	slices.Sort(o.done)
	what := fmt.Sprintf("HTTP Boot: %d clients come at once, HEAD and GET of 20 MB, 0 failures", stormClients)
	r.add(measure{netboot: true, what: what + ": until 99 of 100 have it", unit: seconds, series: series{values: []float64{o.done[len(o.done)*99/100]}, memory: memory}, memoryLimit: 256 << 20,
		note: fmt.Sprintf("%.0f MB/s in all", float64(o.bytes)/o.took.Seconds()/1e6)})
	return nil
}

// ukiFolder has a UKI of random bytes.
func ukiFolder(dir string) (string, error) {
	root := filepath.Join(dir, "http-root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	b := make([]byte, ukiBytes)
	rand.Read(b)
	return root, os.WriteFile(filepath.Join(root, ukiName), b, 0o644)
}

// httpServer is a server that runs.
type httpServer struct {
	name string
	addr netip.AddrPort
	cmd  *exec.Cmd
}

// httpHereEnv makes this program an HTTP server: "ADDRESS FOLDER".
const httpHereEnv = "INGOT_BENCH_HTTP"

// startHTTP starts a server for a folder: nginx by its path, or with "" ours.
func startHTTP(ctx context.Context, l *lab, root, nginx string) (*httpServer, error) {
	t, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &httpServer{name: "ingot", addr: t.Addr().(*net.TCPAddr).AddrPort()}
	t.Close()
	if nginx == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		s.cmd = exec.CommandContext(ctx, self)
		s.cmd.Env = append(os.Environ(), httpHereEnv+"="+s.addr.String()+" "+root)
	} else {
		s.name = "nginx"
		dir := filepath.Join(l.dir, "nginx")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		conf := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, s.addr, root), 0o644); err != nil {
			return nil, err
		}
		s.cmd = exec.CommandContext(ctx, nginx, "-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log"))
	}
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.await()
}

// nginxConf is nginx as it sends files best.
const nginxConf = `daemon off; user root; worker_processes auto; worker_rlimit_nofile 16384; pid %[1]s/pid;
events { worker_connections 8192; }
http {
	access_log off; sendfile on; tcp_nopush on; sendfile_max_chunk 2m; open_file_cache max=10;
	client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server { listen %[2]s backlog=4096; root %[3]s; }
}
`

func (s *httpServer) await() error {
	for range 200 {
		c, err := net.Dial("tcp", s.addr.String())
		if err == nil {
			return c.Close()
		}
		time.Sleep(25 * time.Millisecond)
	}
	s.stop()
	return fmt.Errorf("%s does not listen on %s", s.name, s.addr)
}

// stop ends it; nginx ends its workers.
func (s *httpServer) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// serveHTTPHere runs in a process of its own, so that its memory is its own.
func serveHTTPHere(spec string) error {
	addr, root, _ := strings.Cut(spec, " ")
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	source, err := releaseIn(root)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A crowd on one machine is not what the bound of an address is for.
	s := &httpboot.Server{Source: source, Limits: httpboot.Limits{PerAddress: 2 * stormClients}}
	return s.Serve(ctx, ln)
}

// releaseIn is the release in a folder, whose only file is checked as all are.
func releaseIn(root string) (oneFile, error) {
	store, err := bootfiles.New(bootfiles.Options{})
	if err != nil {
		return oneFile{}, err
	}
	b, err := os.ReadFile(filepath.Join(root, ukiName))
	if err != nil {
		return oneFile{}, err
	}
	sum := sha256.Sum256(b)
	return oneFile{store, bootfiles.File{Path: filepath.Join(root, ukiName), Name: ukiName, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}}, nil
}

// oneFile is the release.
type oneFile struct {
	store *bootfiles.Store
	file  bootfiles.File
}

// Open implements netboot.Source.
func (o oneFile) Open(ctx context.Context, r pxe.Request) (pxe.Content, error) {
	if r.Path != o.file.Name {
		return nil, pxe.ErrNotFound
	}
	return o.store.Open(ctx, o.file)
}
