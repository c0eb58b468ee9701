package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	pin "github.com/pin/tftp/v3"

	pxe "github.com/ingot-os/ingot/pxe/netboot"
	"github.com/ingot-os/ingot/pxe/tftp"
)

// tftpHereEnv makes this program a TFTP server: "ENGINE ADDRESS FOLDER WINDOW
// TRANSFERS". The last two are the limits of ours; 0 is its default.
const tftpHereEnv = "INGOT_BENCH_TFTP"

// serveTFTPHere runs in a process of its own, so that its time and memory are its own.
func serveTFTPHere(spec string) error {
	var engine, at, folder string
	var limits tftp.Limits
	if _, err := fmt.Sscan(spec, &engine, &at, &folder, &limits.Window, &limits.Transfers); err != nil {
		return fmt.Errorf("%s=%s: %w", tftpHereEnv, spec, err)
	}
	addr, err := netip.ParseAddrPort(at)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	conn, err := tftp.Listen(addr, "")
	if err != nil {
		return err
	}
	if engine == "pin" {
		return servePin(conn, root)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return (&tftp.Server{Source: rootSource{root}, Limits: limits, Grace: time.Millisecond}).Serve(ctx, conn)
}

// servePin is github.com/pin/tftp/v3 as it does best: no minutes of waiting, blocks as
// large as a client asks for on loopback, a listening socket as wide as ours.
func servePin(conn *net.UDPConn, root *os.Root) error {
	s := pin.NewServer(func(name string, to io.ReaderFrom) error {
		f, err := root.Open(name)
		if err != nil {
			return errors.New("no such file")
		}
		defer f.Close()
		_, err = to.ReadFrom(f)
		return err
	}, nil)
	s.SetTimeout(time.Second)
	s.SetRetries(8)
	s.SetBackoff(func(int) time.Duration { return 0 })
	return s.Serve(conn)
}

// rootSource serves the files of a folder.
type rootSource struct{ root *os.Root }

func (s rootSource) Open(_ context.Context, r pxe.Request) (pxe.Content, error) {
	f, err := s.root.Open(r.Path)
	if err != nil {
		return nil, pxe.ErrNotFound
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, pxe.ErrNotFound
	}
	return rootContent{f, info.Size()}, nil
}

type rootContent struct {
	*os.File
	size int64
}

func (c rootContent) Size() int64  { return c.size }
func (c rootContent) Begin() error { return nil }

// tftpServer is a server that runs.
type tftpServer struct {
	name string
	addr netip.AddrPort
	cmd  *exec.Cmd
	log  *os.File
}

// Names of servers.
const (
	tftpOurs    = "ingot"
	tftpPin     = "pin/tftp 3.2.0, tuned"
	tftpDnsmasq = "dnsmasq"
	tftpHPA     = "tftpd-hpa"
	tftpAtftpd  = "atftpd"
)

// startTFTP starts a server for a folder, on an address of its own of loopback.
// dnsmasq knows no other port than 69, which takes root. Limits are for ours.
func startTFTP(ctx context.Context, l *lab, name, root string, limits tftp.Limits) (*tftpServer, error) {
	s := &tftpServer{name: name}
	ip, port := "127.0.0.1", uint16(0)
	if name == tftpDnsmasq {
		ip, port = "127.0.0.69", 69
	}
	var err error
	if port == 0 {
		if port, err = freePort(ip); err != nil {
			return nil, err
		}
	}
	s.addr = netip.AddrPortFrom(netip.MustParseAddr(ip), port)
	if s.cmd, err = s.command(ctx, l, root, limits); err != nil {
		return nil, err
	}
	if s.log, err = os.CreateTemp(l.dir, "tftp-"); err != nil {
		return nil, err
	}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.await()
}

func freePort(ip string) (uint16, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}

func (s *tftpServer) command(ctx context.Context, l *lab, root string, limits tftp.Limits) (*exec.Cmd, error) {
	port := fmt.Sprint(s.addr.Port())
	switch s.name {
	case tftpOurs, tftpPin:
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, self)
		engine, _, _ := strings.Cut(s.name, "/")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %d %d", tftpHereEnv, engine, s.addr, root, limits.Window, limits.Transfers))
		return cmd, nil
	case tftpDnsmasq:
		path, err := debianProgram(ctx, l, "dnsmasq-base", "usr/sbin/dnsmasq")
		return exec.CommandContext(ctx, path, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--enable-tftp", "--tftp-root="+root, "--tftp-max=2000",
			"--user=root", "--pid-file=", "--bind-interfaces", "--listen-address="+s.addr.Addr().String(), "--log-facility=/dev/null"), err
	case tftpHPA:
		path, err := debianProgram(ctx, l, "tftpd-hpa", "usr/sbin/in.tftpd")
		return exec.CommandContext(ctx, path, "--foreground", "--address", s.addr.String(), "--user", "root", "--secure", root), err
	}
	path, err := debianProgram(ctx, l, "atftpd", "usr/sbin/atftpd")
	return exec.CommandContext(ctx, path, "--daemon", "--no-fork", "--port", port, "--bind-address", s.addr.Addr().String(), "--maxthread", "400", // it ends itself when select(2) has no room for a descriptor
		"--user", "root.root", "--logfile", "/dev/null", "--verbose=0", root), err
}

// await asks until the server answers.
func (s *tftpServer) await() error {
	for range 50 {
		o, err := tftpLoad{server: s.addr, file: tftpSmall, size: tftpSmallSize, clients: 1, block: 512, patient: 200 * time.Millisecond}.run()
		if err != nil {
			return err
		}
		if o.failed == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.stop()
	b, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("%s does not answer: %s", s.name, lastLines(string(b), 5))
}

func (s *tftpServer) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.log.Close()
}

const (
	tftpSmall     = "small"
	tftpSmallSize = 1000
)
