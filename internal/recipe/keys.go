package recipe

import (
	"regexp"
	"slices"
	"sync"

	"github.com/ingot-os/ingot/internal/machine"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Keys describes appliance.yaml for the decoder, the schema and docs/recipe.md.
var Keys = sync.OnceValue(func() *strictyaml.Table {
	network := strictyaml.Under("network", machine.NetworkKeys)
	network[0].Default = "DHCP on every Ethernet link; `network: []` for none"
	return strictyaml.NewTable(compiled(slices.Concat(topKeys, inputKeys, contentKeys, network, serviceKeys, diskKeys, trustKeys, attestKeys, updateKeys, netbootKeys, scanKeys))...)
})

// compiled gives every key with a pattern a function that matches it.
func compiled(keys []strictyaml.Key) []strictyaml.Key {
	for i := range keys {
		if k := &keys[i]; k.Pattern != "" && k.Match == nil {
			k.Match = regexp.MustCompile(k.Pattern).MatchString
		}
	}
	return keys
}

// Shared words of the table.
const (
	namePattern = `^[a-z][a-z0-9-]{0,62}$`
	nameExpect  = "a lower case letter, then letters, digits and dashes, at most 63"
	userPattern = `^[a-z_][a-z0-9_-]{0,31}$`
	userExpect  = "a lower case letter, then letters, digits, dashes and underscores, at most 32"
	absPattern  = `^/[^/]`
	absExpect   = "an absolute path such as /etc/app.conf"
	debPattern  = `^[a-z0-9][a-z0-9+.-]{1,127}$`
	debExpect   = "a Debian package name: lower case letters, digits, plus, dot and dash"
	suiteExpect = "a Debian suite such as trixie"
	suiteRE     = `^[a-z][a-z0-9-]{0,31}$`
)

var topKeys = []strictyaml.Key{
	{Path: "name", Required: true, Pattern: namePattern, Expect: nameExpect, Also: []string{"appliance", "id"},
		Doc:     "Name of the appliance. It names the files of a build, and all partition ids derive from it, so that the same name gives the same disk layout.",
		Example: "name: hello"},
	{Path: "version", Required: true, Pattern: `^[0-9A-Za-z][0-9A-Za-z.+~-]{0,31}$`, Expect: "letters, digits, dot, plus, tilde and dash, at most 32", Also: []string{"release"},
		Doc:     "Version of this image. Write it in quotes when it looks like a number. Every release needs its own.",
		Example: `version: "1.0"`},
	{Path: "arch", Enum: []string{"amd64", "arm64"}, Default: "amd64", Also: []string{"architecture", "platform"},
		Means:   map[string]string{"x86_64": "amd64", "x86-64": "amd64", "x64": "amd64", "aarch64": "arm64", "armv8": "arm64"},
		Doc:     "Processor of the machines.",
		Example: "arch: arm64"},
	{Path: "epoch", Pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(Z|z|[+-][0-9]{2}:[0-9]{2})$`, Expect: `a time as RFC 3339 writes it: "2026-01-31T12:00:00Z"`,
		Default: "the newest date of the package archive's signed indexes, kept in the lock", Also: []string{"source_date_epoch"},
		Doc:     "The time that every file in the image carries, and the earliest time the machine's clock can show.",
		Example: `epoch: "2026-01-31T12:00:00Z"`},
	{Path: "mirror", MinLen: 1, Default: "what the host's apt is configured with",
		Doc:     "Debian mirror that packages are taken from; the security archive is looked for beside it. A host whose apt names no Debian mirror needs this key. Signatures are checked whatever it is.",
		Example: "mirror: https://mirror.example.org/debian"},
	{Path: "snapshot", MinLen: 1,
		Doc:     "Snapshot service to ask for a locked package that the mirror has dropped since.",
		Example: "snapshot: https://snapshot.example.org/archive/debian"},
}

var inputKeys = []strictyaml.Key{
	{Path: "kernel", Default: "the Debian cloud kernel of the processor",
		Doc: "The kernel: a Debian package, or local files. `linux-image-cloud-amd64` has drivers for virtual machines only; physical machines need `linux-image-amd64`.",
		Example: `kernel:
  package: linux-image-amd64
  suite: trixie`},
	{Path: "kernel.package", Pattern: debPattern, Expect: debExpect, Without: "file", Default: "linux-image-cloud-amd64 or -arm64", Doc: "Debian package. A metapackage is followed to the image it depends on.", Example: "package: linux-image-amd64"},
	{Path: "kernel.suite", Pattern: suiteRE, Expect: suiteExpect, Without: "file", Default: "trixie", Doc: "Debian suite the package is taken from, with its updates and security pockets.", Example: "suite: trixie"},
	{Path: "kernel.file", MinLen: 1, Also: []string{"path", "image"}, Doc: "Local kernel: a bzImage (amd64) or an EFI Image (arm64).", Example: "file: build/vmlinuz"},
	{Path: "kernel.modules", MinLen: 1, With: "file", Doc: "Local `lib/modules/VERSION` directory that belongs to `file`.", Example: "modules: build/lib/modules/6.12.30"},

	{Path: "stub", Default: "systemd-boot-efi of the same suite",
		Doc:     "The EFI stub that the kernel, the initramfs and the command line are joined to. It measures them into PCR 11.",
		Example: "stub: {package: systemd-boot-efi, suite: trixie}"},
	{Path: "stub.package", Pattern: debPattern, Expect: debExpect, Without: "file", Default: "systemd-boot-efi", Doc: "Debian package.", Example: "package: systemd-boot-efi"},
	{Path: "stub.suite", Pattern: suiteRE, Expect: suiteExpect, Without: "file", Default: "trixie", Doc: "Debian suite of the package.", Example: "suite: trixie"},
	{Path: "stub.file", MinLen: 1, Doc: "Local stub instead of a package.", Example: "file: linuxx64.efi.stub"},

	{Path: "modules", Default: "[virtio]", Also: []string{"drivers", "kernel_modules"},
		Doc:     "Kernel modules, by name or by group. What a module depends on comes along; modules for hardware load when the hardware appears, modules given by their own name load always and in this order. A group stands for the drivers of a kind of machine; members that the kernel package does not have are skipped.",
		Example: `modules: [server, usb, wireguard]`},
	{Path: "modules[]", Pattern: `^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`, Expect: "a module name such as wireguard, without .ko, or a group"},

	{Path: "firmware",
		Doc: "Files that drivers load into their devices, put under `/lib/firmware`.",
		Example: `firmware:
  - package: firmware-bnx2x
    files: ["bnx2x/bnx2x-e2-*.fw"]
  - source: blobs/`},
	{Path: "firmware[]", OneOf: []string{"package", "source"}},
	{Path: "firmware[].package", Pattern: debPattern, Expect: debExpect, Doc: "Debian package of the section non-free-firmware.", Example: "package: firmware-realtek"},
	{Path: "firmware[].suite", Pattern: suiteRE, Expect: suiteExpect, With: "package", Default: "trixie", Doc: "Debian suite of the package.", Example: "suite: trixie"},
	{Path: "firmware[].files", Default: "all of them", Doc: "Which files, below `lib/firmware`; `*` and `?` match inside one name.", Example: `files: ["rtl_nic/*"]`},
	{Path: "firmware[].files[]", MinLen: 1},
	{Path: "firmware[].source", MinLen: 1, Doc: "Local file or directory instead of a package.", Example: "source: blobs/"},

	{Path: "cmdline", Also: []string{"cmd", "kernel_args", "args"}, Default: "a console for the processor",
		Doc:     "Words added to the kernel's command line. Without a `console=` word the first serial port is the console: `console=ttyS0` on amd64, `console=ttyAMA0` on arm64. Words beginning with `ingot.` are ingot's own.",
		Example: `cmdline: [console=tty0, "console=ttyS0,115200", panic=30]`},
	{Path: "cmdline[]", Pattern: `^[!-~]+$`, Expect: "one word of visible ASCII characters without spaces"},
	{Path: "compress", Enum: []string{"none", "zstd"}, Default: "none", Also: []string{"compression"},
		Doc:     "Compression of the initramfs inside the boot file. Uncompressed, a change of one line is a small download for a machine that has the previous image; `zstd` makes the file itself smaller.",
		Example: "compress: zstd"},
}

var contentKeys = []strictyaml.Key{
	{Path: "uroot", Also: []string{"u-root", "commands", "packages"},
		Doc:     "u-root commands, built into one program and reachable as `/bin/NAME`. A production image may have none, not even a shell.",
		Example: "uroot: [gosh, ls, cat, ip, dmesg]"},
	{Path: "uroot[]", Pattern: `^[a-z0-9][a-z0-9_.-]{0,31}$`, Expect: "the name of a u-root command such as ls"},

	{Path: "go", Also: []string{"golang", "programs"},
		Doc: "Go main packages, compiled statically into `/bin/NAME`.",
		Example: `go:
  - package: ./cmd/app
  - package: github.com/prometheus/node_exporter@v1.8.2
    name: exporter`},
	{Path: "go[].package", Required: true, MinLen: 1, Also: []string{"path", "module", "import", "source"}, Doc: "A directory beginning with `./`, or `module/path@version` with an exact version.", Example: "package: ./cmd/app"},
	{Path: "go[].name", Pattern: `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`, Expect: "letters, digits, dot, dash and underscore", Default: "last part of the package", Doc: "Name of the program in `/bin`.", Example: "name: app"},
	{Path: "go[].tags", Doc: "Build tags.", Example: "tags: [netgo]"},
	{Path: "go[].tags[]", Pattern: `^[A-Za-z0-9_.]+$`, Expect: "letters, digits, dots and underscores"},
	{Path: "go[].ldflags", Doc: "Linker flags, added to ingot's own `-s -w -buildid=`.", Example: `ldflags: -X main.version=1.0`},

	{Path: "files",
		Doc: "Files of the initramfs: written here, copied, downloaded, or links.",
		Example: `files:
  - path: /etc/app.conf
    content: |
      listen = :8080
    mode: 0640
    owner: app
  - path: /usr/share/app
    source: assets/
  - path: /etc/mtab
    symlink: /proc/mounts`},
	{Path: "files[]", OneOf: []string{"content", "source", "symlink", "url"}},
	{Path: "files[].path", Required: true, Pattern: absPattern, Expect: absExpect, Also: []string{"dest", "destination", "target"}, Doc: "Place on the machine.", Example: "path: /etc/app.conf"},
	{Path: "files[].content", Also: []string{"contents", "text", "inline", "data"}, Doc: "The text of the file; may be empty.", Example: "content: hello"},
	{Path: "files[].source", MinLen: 1, Also: []string{"src", "from"}, Doc: "Local file or directory, relative to the recipe. A directory is copied with all that is in it.", Example: "source: assets/"},
	{Path: "files[].symlink", MinLen: 1, Also: []string{"link"}, Doc: "Target of a symbolic link.", Example: "symlink: /proc/mounts"},
	{Path: "files[].url", Pattern: `^https?://[^ ]+$`, Expect: "an http or https address", Doc: "Download. The lock keeps the digest; give `sha256` to say beforehand what it must be.", Example: "url: https://example.com/data.bin"},
	{Path: "files[].sha256", Pattern: `^[0-9a-f]{64}$`, Expect: "64 lower case hexadecimal digits", With: "url", Also: []string{"digest", "checksum"}, Doc: "Digest of the download.", Example: "sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
	{Path: "files[].mode", Default: "0644, or 0755 for an executable local file", Also: []string{"permissions", "perm"}, Doc: "Permissions as octal digits. A local file that is executable gets 0755 by itself, and so do those in a source directory, where `mode` is not allowed.", Example: "mode: 0755"},
	{Path: "files[].owner", Pattern: `^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$`, Expect: "a user, or user:group, by name or number", Default: "root", Also: []string{"user", "uid", "group"}, Doc: "Owner, and after a colon the group.", Example: "owner: app"},

	{Path: "users",
		Doc:     "Accounts beside `root` and `nobody`. Each gets a group of the same name and number.",
		Example: "users:\n  - {name: app, uid: 1000}"},
	{Path: "users[].name", Required: true, Pattern: userPattern, Expect: userExpect, Doc: "Name of the account.", Example: "name: app"},
	{Path: "users[].uid", Required: true, Min: 1, Max: 65533, Also: []string{"id", "gid"}, Doc: "Number of the account.", Example: "uid: 1000"},

	{Path: "certificates", Also: []string{"ca_certificates", "ca-certificates", "tls"}, Default: "false",
		Doc:     "Put Mozilla's certificate authorities (Debian package ca-certificates, 0.2 MB) at /etc/ssl/certs/ca-certificates.crt, for services that speak HTTPS to the world. A root payload always gets them, and time zones, where it has none of its own.",
		Example: "certificates: true"},

	{Path: "ntp", Also: []string{"timeservers"},
		Doc:     "Time servers, names or addresses. Without any the clock starts at the image's epoch or what the hardware says, whichever is later.",
		Example: "ntp: [pool.ntp.org]"},
	{Path: "ntp[]", MinLen: 1},
}

// capabilities are those of Linux 6.12 (include/uapi/linux/capability.h), without the prefix CAP_.
var capabilities = []string{
	"AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE",
	"DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN",
	"MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID",
	"SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT",
	"SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}

var serviceKeys = slices.Concat([]strictyaml.Key{
	{Path: "services", Also: []string{"service", "daemons", "units"},
		Doc: "Programs that ingot-init starts, watches and restarts.",
		Example: `services:
  - name: app
    command: /bin/app
    args: [-listen, ":8080"]
    user: app
    restart: {policy: always, backoff: 1s, max: 30s}
    health:
      http: {port: 8080, path: /healthz}`},
	{Path: "services[].name", Required: true, Pattern: `^[a-z0-9][a-z0-9_.-]{0,62}$`, Expect: "lower case letters, digits, dot, dash and underscore, at most 63", Doc: "Name in logs, in the status and in `after`.", Example: "name: app"},
	{Path: "services[].command", Pattern: absPattern, Expect: "an absolute path such as /bin/app; arguments go into args:", Default: "the entry point of a `root.oci` image, required without one", Also: []string{"cmd", "exec", "run", "entrypoint"}, Doc: "Program, in the initramfs or in the root payload. Left out, the service is what the container image starts: its entry point, working directory and user.", Example: "command: /bin/app"},
	{Path: "services[].args", Also: []string{"arguments"}, Doc: "Its arguments. There is no shell in between. Without `command` they replace the default arguments of the container image (CMD).", Example: `args: [-listen, ":8080"]`},
	{Path: "services[].env", Pattern: `^[A-Za-z_][A-Za-z0-9_]*$`, Expect: "letters, digits and underscores", Also: []string{"environment"}, Doc: "Environment variables.", Example: "env: {LANG: C.UTF-8}"},
	{Path: "services[].dir", Pattern: `^/`, Expect: "an absolute path", Default: "/", Also: []string{"workdir", "working_directory", "cwd"}, Doc: "Working directory.", Example: "dir: /data/app"},
	{Path: "services[].stateDirectory", MinLen: 1, Also: []string{"state_directory", "state-directory", "statedir"}, Doc: "Directory below the data partition's mount that is made, and given to `user`, before the program starts: `recorder` is `/data/recorder`.", Example: "stateDirectory: recorder"},
	{Path: "services[].user", Pattern: userPattern, Expect: userExpect, Default: "root", Doc: "Account the program runs as: one of `users`, `root` or `nobody`. Even root has no more rights than its `capabilities`.", Example: "user: app"},
	{Path: "services[].capabilities", Default: "none, for root too", Also: []string{"caps", "cap_add"}, Doc: "Linux capabilities that the program keeps; all others are dropped, also from root. Names without `CAP_`.", Example: "capabilities: [NET_BIND_SERVICE]"},
	{Path: "services[].capabilities[]", Enum: capabilities},
	{Path: "services[].secrets", Doc: "Names of secrets that the server gives to an attested machine. The service starts when they are there: `/run/ingot/secrets/SERVICE/NAME`, readable by its `user` only, in memory only. Needs `attest`.", Example: "secrets: [db-password]"},
	{Path: "services[].secrets[]", Pattern: `^[a-z0-9][a-z0-9._-]{0,62}$`, Expect: "lower case letters, digits, dots, dashes and underscores, at most 63"},
	{Path: "services[].restart", Default: "always, after 1s doubling up to 30s", Doc: "What happens when the program ends.", Example: "restart: {policy: on-failure, backoff: 2s, max: 1m}"},
	{Path: "services[].restart.policy", Enum: []string{"always", "on-failure", "never"}, Means: map[string]string{"no": "never", "none": "never", "oneshot": "never", "once": "never", "unless-stopped": "always", "yes": "always", "onfailure": "on-failure"}, Default: "always", Doc: "`on-failure` restarts unless it ended with status 0.", Example: "policy: on-failure"},
	{Path: "services[].restart.backoff", Default: "1s", Also: []string{"delay", "interval"}, Doc: "Wait before the first restart. It doubles with each one in a row.", Example: "backoff: 2s"},
	{Path: "services[].restart.max", Default: "30s", Also: []string{"max_backoff"}, Doc: "Longest wait.", Example: "max: 1m"},
	{Path: "services[].after", Also: []string{"depends", "depends_on", "requires", "needs", "dependencies"}, Doc: "Services that must be healthy first, or running when they have no check.", Example: "after: [db]"},
	{Path: "services[].health", Also: []string{"healthcheck", "check", "probe", "liveness"}, Doc: "How to see that it works: exactly one of `exec`, `tcp` and `http`. A new image is only kept when all its services are healthy.", Example: "health:\n  tcp: 5432\n  interval: 10s", OneOf: []string{"exec", "tcp", "http"}},
	{Path: "services[].health.exec", MinLen: 1, Expect: "give the program and its arguments", Also: []string{"command", "cmd"}, Doc: "Program and arguments; healthy when it ends with status 0.", Example: "exec: [/bin/app, -check]"},
	{Path: "services[].health.tcp", Min: 1, Max: 65535, Also: []string{"port"}, Doc: "Port on the loopback address that must accept a connection.", Example: "tcp: 5432"},
	{Path: "services[].health.http", Doc: "Request to the machine itself.", Example: "http: {port: 8080, path: /healthz}"},
}, strictyaml.Under("services[].health.http", httpKeys), []strictyaml.Key{
	{Path: "services[].health.interval", Default: "5s", Also: []string{"period", "every"}, Doc: "Time between two checks.", Example: "interval: 10s"},
	{Path: "services[].health.timeout", Default: "2s", Doc: "Longest time for one check.", Example: "timeout: 1s"},
	{Path: "services[].health.retries", Min: 1, Max: 1000, Default: "3", Doc: "Failures in a row that make the service unhealthy.", Example: "retries: 5"},
	{Path: "services[].stopTimeout", Default: "10s", Also: []string{"stop-timeout", "stop_timeout", "kill_timeout", "grace"}, Doc: "Time between SIGTERM and SIGKILL at shutdown.", Example: "stopTimeout: 30s"},

	{Path: "smoke", Also: []string{"tests", "smoketests"},
		Doc: "What `ingot test` expects of the booted machine: exactly one of `command` and `http` each.",
		Example: `smoke:
  - name: answers
    http: {port: 8080, path: /, body: hello}
  - name: has an address
    command: [/bin/ip, addr]
    output: "10.0.2.15"`},
	{Path: "smoke[]", OneOf: []string{"command", "http"}},
	{Path: "smoke[].name", Required: true, MinLen: 1, Doc: "Name in the verdict.", Example: "name: answers"},
	{Path: "smoke[].command", MinLen: 1, Expect: "give the program and its arguments", Also: []string{"exec", "cmd"}, Doc: "Program and arguments, run on the machine; expected to end with status 0.", Example: "command: [/bin/app, -selftest]"},
	{Path: "smoke[].output", With: "command", Also: []string{"stdout", "contains", "expect"}, Doc: "Text that the output must contain.", Example: "output: ok"},
	{Path: "smoke[].http", Doc: "Request from outside through a forwarded port.", Example: "http: {port: 8080, body: hello}"},
}, strictyaml.Under("smoke[].http", httpKeys), []strictyaml.Key{
	{Path: "smoke[].timeout", Default: "30s", Doc: "Time until the expectation must hold; it is tried again until then.", Example: "timeout: 1m"},

	{Path: "management", Doc: "The machine's own listener: `/healthz`, `/v1/status` and `/v1/logs`.", Example: "management: {listen: \":9443\"}"},
	{Path: "management.listen", Pattern: `^(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z.-]*):[0-9]{1,5}$`, Expect: `an address and port such as ":9443" or "127.0.0.1:9443"`, Default: ":9443", Also: []string{"port", "address"}, Doc: "Address and port.", Example: `listen: ":9443"`},
})

// httpKeys describes an HTTP expectation, of a health check or a smoke test.
var httpKeys = []strictyaml.Key{
	{Path: ".port", Required: true, Min: 1, Max: 65535, Doc: "Port of the machine.", Example: "port: 8080"},
	{Path: ".path", Pattern: `^/[!-~]*$`, Expect: "a path that begins with / and has no spaces", Default: "/", Also: []string{"url", "uri"}, Doc: "Path, with its query.", Example: "path: /healthz"},
	{Path: ".status", Min: 100, Max: 599, Default: "200", Also: []string{"code"}, Doc: "Status expected.", Example: "status: 204"},
	{Path: ".body", Also: []string{"contains", "text", "output"}, Doc: "Text that the answer must contain.", Example: "body: hello"},
}

var diskKeys = []strictyaml.Key{
	{Path: "disk", Also: []string{"disks", "partitions", "layout"},
		Doc: "Sizes of the partitions. Together they make the layout id; an update is only accepted by machines of the same layout, so choose with room to grow.",
		Example: `disk:
  esp: 256M
  slot: 512M`},
	{Path: "disk.sector", Values: []int64{512, 4096}, Default: "512", Also: []string{"sector_size"}, Doc: "Logical sector size in bytes of the image file. `ingot flash` rewrites the table for the device it finds.", Example: "sector: 4096"},
	{Path: "disk.esp", Default: "128M", Also: []string{"boot", "efi"}, Doc: "EFI system partition. It holds the boot file twice: it is the recovery and is replaced one copy at a time.", Example: "esp: 256M"},
	{Path: "disk.slot", Default: "256M", Also: []string{"slots"}, Doc: "Each of the two slots. A slot holds one boot file; `ingot check` wants room for one twice as large.", Example: "slot: 512M"},
	{Path: "disk.root", Default: "1G", Doc: "Each of the two root partitions; they exist only with a `root` payload.", Example: "root: 2G"},

	{Path: "data", Doc: "The writable partition. It is made on the first boot, grows to the end of the disk and survives updates.", Example: "data: {mount: /data, size: 1G}"},
	{Path: "data.mount", Pattern: absPattern, Expect: "an absolute path such as /data", Default: "/data", Also: []string{"path", "mountpoint"}, Doc: "Where it is mounted.", Example: "mount: /data"},
	{Path: "data.filesystem", Enum: []string{"ext4"}, Default: "ext4", Also: []string{"fs", "type", "format"}, Doc: "File system.", Example: "filesystem: ext4"},
	{Path: "data.encrypt", Enum: []string{"tpm"}, Default: "not encrypted", Also: []string{"encryption", "crypt", "luks"}, Means: map[string]string{"tpm2": "tpm", "luks": "tpm", "yes": "tpm", "true": "tpm"},
		Doc: "`tpm` makes the partition a LUKS2 volume whose key only this machine's TPM gives, and only to a release that the policy key has signed, under the site's own Secure Boot keys, at or above the machine's security epoch: [data-encryption.md](data-encryption.md). Needs `trust` with firmware and policy keys.", Example: "encrypt: tpm"},
	{Path: "data.schema", Min: 0, Max: 65535, Default: "0", Also: []string{"format_version", "dataSchema"},
		Doc: "Number of the format in which this version's services write their data. Raise it by one when a version before could not read what this one writes: the machine then lets no service change the format before the new version is blessed, and does not go back behind it afterwards. Services read `/run/ingot/data-schema`, which has the format that they may write.", Example: "schema: 2"},
	{Path: "data.accepts", Min: 0, Max: 65535, Default: "what `schema` says", Also: []string{"reads", "dataAccepts"}, Doc: "Newest format that this version's services read.", Example: "accepts: 3"},
	{Path: "data.disabled", Default: "false", Doc: "`true` leaves the partition out: nothing written on the machine survives a reboot.", Example: "disabled: true"},
	{Path: "data.size", Default: "64M", Doc: "Size in the image file; on the machine it grows.", Example: "size: 1G"},

	{Path: "root", Also: []string{"rootfs"}, OneOf: []string{"directory", "tar", "oci"},
		Doc: "Optional read-only root file system under dm-verity: exactly one of `directory`, `tar` and `oci`. Its root hash is in the signed boot file, and services run on it. Without it everything lives in the initramfs.",
		Example: `root:
  oci: registry.example.com/team/app@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
  format: erofs`},
	{Path: "root.directory", MinLen: 1, Also: []string{"dir", "path", "source"}, Doc: "Local directory.", Example: "directory: rootfs/"},
	{Path: "root.tar", MinLen: 1, Also: []string{"archive", "tarball"}, Doc: "Local tar archive, plain or compressed with gzip or zstd.", Example: "tar: rootfs.tar.gz"},
	{Path: "root.oci", MinLen: 1, Also: []string{"image", "container", "docker"}, Doc: "Container image: `registry/name@sha256:DIGEST` or `registry/name:tag` (the lock pins what the tag means), or a local OCI layout directory `./dir@sha256:DIGEST`. Entry point and environment of the image are used.", Example: "oci: ./layout@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
	{Path: "root.format", Enum: []string{"squashfs", "erofs"}, Default: "squashfs", Also: []string{"filesystem", "fs", "type"}, Doc: "File system of the payload. squashfs is smaller, erofs reads faster; hard links become copies in it.", Example: "format: erofs"},

	{Path: "boot", Also: []string{"bootloader", "loader"},
		Doc: "Who picks the slot at power-on.",
		Example: `boot:
  loader: systemd-boot
  timeout: 3`},
	{Path: "boot.loader", Enum: []string{"firmware", "systemd-boot"}, Means: map[string]string{"sd-boot": "systemd-boot", "efi": "firmware", "uefi": "firmware", "none": "firmware"}, Default: "firmware", Also: []string{"type"}, Doc: "`firmware`: the firmware's own boot manager, by boot entries that ingot writes. `systemd-boot`: for firmware that loses its variables, or where a menu is wanted.", Example: "loader: systemd-boot"},
	{Path: "boot.policy", Enum: []string{"disk-first", "net-first", "external"}, Default: "disk-first", Also: []string{"boot_policy", "order", "bootOrder"},
		Means:   map[string]string{"disk": "disk-first", "net": "net-first", "network": "net-first", "network-first": "net-first", "none": "external", "keep": "external"},
		Doc:     "Where the slots stand among the firmware's boot entries. `disk-first`: before all others. `net-first`: behind those that load from the network, so that a boot server is asked at each start; one that has nothing for the machine says so, and it starts from its disk. `external`: the order belongs to a management controller or another system; the slots only change places with each other, and an install sets BootNext.",
		Example: "policy: net-first"},
	{Path: "boot.timeout", Min: 0, Max: 3600, Default: "0", Also: []string{"wait", "menu_timeout"}, Doc: "Seconds that the menu waits.", Example: "timeout: 3"},
	{Path: "boot.budget", Also: []string{"limit", "max_size"}, Default: "none", Doc: "Largest size of the boot file; a larger one is refused. For firmware with little room, or links with little speed.", Example: "budget: 64M"},
	{Path: "boot.entries", Doc: "Further boot entries beside the slots.", Example: "entries:\n  - {title: Memory test, efi: /EFI/memtest/memtest.efi, source: memtest.efi}"},
	{Path: "boot.entries[].title", Required: true, MinLen: 1, Also: []string{"name", "label"}, Doc: "Title in the menu.", Example: "title: Memory test"},
	{Path: "boot.entries[].efi", Required: true, Pattern: `^[/\\].+\.[eE][fF][iI]$`, Expect: `a path on the ESP that ends in .efi: /EFI/memtest/memtest.efi`, Also: []string{"path", "file"}, Doc: "Program on the EFI system partition.", Example: "efi: /EFI/memtest/memtest.efi"},
	{Path: "boot.entries[].source", MinLen: 1, Also: []string{"from", "local"}, Doc: "Local file that is put at `efi:`. Without it the program must be there already, as the spare copy of the image is at /EFI/INGOT/BOOTX64.EFI (arm64: BOOTAA64.EFI).", Example: "source: memtest.efi"},

	{Path: "outputs", Also: []string{"formats", "output"},
		Doc:     "Further files of the same disk beside the raw image: `qcow2` (QEMU, OpenStack), `vhd` (Hyper-V), `vmdk` (vSphere, VirtualBox), `iso` (CD, virtual media, USB stick; it runs from memory) and `zst` (compressed for download, with a block map). See [outputs.md](outputs.md).",
		Example: "outputs: [qcow2, zst]"},
	{Path: "outputs[]", Enum: Outputs},
}

// Outputs are the names that the key outputs knows.
var Outputs = []string{"qcow2", "vhd", "vmdk", "iso", "zst"}
