package recipe

// urootNames are the commands of u-root v0.16.0: the directories of cmds/core,
// boot, cluster, contrib, exp, extra and fwtools that hold a program. A test
// compares them with the module.
var urootNames = []string{
	"acpicat", "acpigrep", "ansi", "backoff", "base64", "basename", "bind", "blkid", "boot", "bootvars", "brctl", "bzimage", "cat",
	"cbmem", "chmod", "chroot", "cmd2pkg", "cmp", "comm", "console", "cp", "cpio", "crc", "date", "dd", "df", "dhclient", "dirname",
	"disk_unlock", "dmesg", "dmidecode", "du", "dumpebda", "dumpmemmap", "echo", "ectool", "ed", "efivarfs", "esxiboot", "false",
	"fbnetboot", "fbptcat", "fbsplash", "fdtdump", "field", "find", "fitboot", "fixrsdp", "flash", "forth", "free", "freq",
	"fusermount", "getty", "gosh", "gpgv", "gpt", "grep", "gzip", "hdparm", "head", "hexdump", "hostname", "hwclock", "id", "init",
	"insmod", "io", "ip", "ipmidump", "kconf", "kexec", "kill", "lddfiles", "ln", "localboot", "lockmsrs", "losetup", "ls",
	"lsdrivers", "lsfabric", "lsfd", "lsmod", "madeye", "man", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "modprobe", "more",
	"mount", "msr", "mv", "netbootxyz", "netcat", "netstat", "newsshd", "nodestats", "nohup", "ntpdate", "nvme_unlock", "page",
	"partprobe", "pci", "pflask", "pidof", "ping", "poweroff", "pox", "printenv", "ps", "pwd", "pxeboot", "pxeserver", "readelf",
	"readlink", "readpe", "realpath", "rm", "rmmod", "rsdp", "run", "rush", "scp", "seq", "serial", "service", "shasum", "shutdown",
	"sleep", "sluinit", "smbios_transfer", "smn", "sort", "spidev", "srvfiles", "ssh", "sshd", "strace", "strings", "stty",
	"switch_root", "sync", "syscallfilter", "systemboot", "tac", "tail", "tar", "tc", "tcpdump", "tcz", "tee", "tftp", "tftpd",
	"time", "timeout", "touch", "tr", "traceroute", "true", "truncate", "ts", "tsort", "tty", "uefiboot", "umount", "uname", "uniq",
	"unmount", "unshare", "update-rc.d", "uptime", "vboot", "vmboot", "watch", "watchdog", "watchdogd", "wc", "wget", "which",
	"xargs", "yes", "zbi", "zimage",
}
