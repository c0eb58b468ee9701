// Package erofs writes and reads EROFS filesystems through
// github.com/erofs/go-erofs 0.3.1. It is the edge of that library: it feeds it
// a tree and refuses what the library would lose.
//
//	size, err := erofs.Write(file, t, erofs.Options{Epoch: epoch})
//
// Limits of the library: no compression, and hard links become copies. A tree
// with hard links is therefore an error unless Options.CopyLinks accepts the
// copies; package squashfs keeps them. Extended attributes are of the classes
// user, trusted and security. The filesystem has no UUID and no checksum: it is
// meant to lie under dm-verity. Blocks are 4096 bytes.
//
// Open reads filesystems of other makers too, hard links included; the
// contents of compressed files cannot be read, which is an error when they are
// opened.
package erofs
