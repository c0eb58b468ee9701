// Package fat writes and reads FAT32 volumes after Microsoft's "FAT: General
// Overview of On-Disk Format" (version 1.03, the text that UEFI 2.10 section
// 13.3 refers to). It exists for boot partitions: the EFI system partition and
// the kernel slots.
//
// A volume is built once, from a tree whose contents are all known:
//
//	img, err := fat.Plan(t, fat.Options{Size: 256 << 20, Serial: id, Epoch: epoch})
//	err = img.Write(file)        // a fresh sparse file: only what is not zero
//	n, err := img.WriteTo(pipe)  // or all bytes in order
//
// Plan decides every cluster, so the same tree and options give the same bytes.
// Every file and directory is one contiguous run of clusters.
//
// Limits: FAT32 only, never FAT12 or FAT16, so at least 65525 clusters (about
// 33 MiB); 512-byte logical sectors whatever disk the volume lands on (EDK2
// reads such a volume on a 4096-byte-sector disk; Linux would not mount it
// there); regular files and directories only. Modes and owners have no place
// in FAT and are dropped; links, devices and extended attributes are errors.
package fat
