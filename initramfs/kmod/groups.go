package kmod

// Groups are names for sets of drivers. A group wins over a module of the same
// name. Members that a kernel does not have are skipped: kernels and
// architectures differ.
//
//   - virtio: disks, network, console, random numbers and the other devices of QEMU and its kin
//   - vm: the devices of VMware, Hyper-V, Xen and the large clouds
//   - server: storage controllers, network cards of 1 to 400 Gbit/s, USB and IPMI of rack servers
//   - edge: network, storage, SD and USB of small boards and industrial PCs
//   - usb: host controllers, storage, keyboards and network adapters
//   - raid: md and device-mapper redundancy
//   - watchdog: hardware timers, the bus drivers that some of them hang on, and the BMC's; not softdog, which
//     would take the place of a real one
//   - verity: what a verity root needs: dm-verity, squashfs, erofs, overlay, loop
//   - crypt: dm-crypt with the ciphers of LUKS defaults
//   - tpm: TPM 2.0 by TIS, CRB, FF-A and SPI; built into Debian's amd64 kernels, modules on arm64
//   - efi: EFI variables and the FAT of the ESP with its code pages
var Groups = map[string][]string{
	"virtio": {
		"virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng",
		"qemu_fw_cfg", "pvpanic_pci", "pvpanic_mmio",
	},
	"vm": {
		"virtio_scsi", "virtio_balloon", "vmw_vsock_virtio_transport", "virtiofs", "vmw_pvscsi", "vmxnet3", "hv_vmbus", "hv_storvsc", "hv_netvsc", "hv_utils", "pci_hyperv", "xen_blkfront", "xen_netfront",
		"nvme", "sd_mod", "ena", "gve", "mana", "ixgbevf",
	},
	"server": {
		"nvme", "vmd", "ahci", "sd_mod", "megaraid_sas", "mpt3sas", "mpi3mr", "smartpqi", "hpsa", "aacraid",
		"mlx4_en", "mlx5_core", "ixgbe", "ixgbevf", "i40e", "iavf", "ice", "igb", "igc", "e1000e", "e1000", "bnxt_en", "bnx2x", "bnx2", "tg3",
		"r8169", "sfc", "qede", "ionic", "cxgb4", "enic", "be2net", "atlantic", "ena",
		"xhci_pci", "ehci_pci", "ohci_pci", "uhci_hcd", "usb_storage", "uas", "usbhid", "hid_generic", "cdc_ether",
		"ipmi_si", "ipmi_ssif", "ipmi_devintf",
	},
	"edge": {
		"r8169", "igb", "igc", "e1000e", "atlantic", "macb", "bcmgenet", "dwmac_rk", "dwmac_intel",
		"ahci", "nvme", "sd_mod", "sdhci_pci", "sdhci_acpi", "sdhci_iproc", "sdhci_of_arasan", "sdhci_of_dwcmshc", "dw_mmc_rockchip", "mmc_block",
		"xhci_pci", "xhci_plat_hcd", "ehci_pci", "ohci_pci", "uhci_hcd", "usb_storage", "uas", "usbhid", "hid_generic",
		"r8152", "ax88179_178a", "asix", "smsc95xx", "lan78xx", "cdc_ether",
	},
	"usb": {
		"xhci_pci", "xhci_plat_hcd", "ehci_pci", "ohci_pci", "uhci_hcd", "usb_storage", "uas", "sd_mod", "usbhid", "hid_generic",
		"r8152", "ax88179_178a", "asix", "smsc95xx", "lan78xx", "cdc_ether", "cdc_ncm",
	},
	"raid": {"md_mod", "raid0", "raid1", "raid10", "raid456", "dm_mod", "dm_raid", "dm_mirror"},
	"watchdog": {
		"iTCO_wdt", "i2c_i801", "lpc_ich", "sp5100_tco", "wdat_wdt", "hpwdt", "i6300esb", "ipmi_si", "ipmi_ssif", "ipmi_watchdog",
		"sbsa_gwdt", "bcm2835_wdt", "dw_wdt", "sp805_wdt",
	},
	"verity": {"dm_mod", "dm_verity", "squashfs", "erofs", "overlay", "loop"},
	"crypt": {
		"dm_mod", "dm_crypt", "xts", "ecb", "cbc", "essiv", "aes_generic", "aesni_intel", "aes_ce_blk", "aes_neon_blk",
		"sha256_generic", "sha256_ssse3", "sha2_ce", "sha512_generic",
	},
	"tpm": {"tpm_tis", "tpm_crb", "tpm_crb_ffa", "tpm_tis_spi"},
	"efi": {"efivarfs", "fat", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"},
}
