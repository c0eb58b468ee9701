// Package squashfs writes and reads squashfs 4.0 filesystems, the format of the
// Linux kernel's Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.
//
// A filesystem is written in one pass from a tree whose contents are read once,
// in tree order, and compressed on all processors:
//
//	size, err := squashfs.Write(file, t, squashfs.Options{Epoch: epoch})
//
// The same tree and options give the same bytes for any number of workers.
// Memory does not grow with the contents: a few blocks for each worker, and the
// compressed inodes and directories.
//
// Written: zstd, fragments (the tail of every file), hard links, symbolic
// links, devices, fifos, sockets, holes (blocks of zeros take no space),
// extended attributes of the classes user, trusted and security, big
// directories with an index, the export table. Not written: other compressors,
// POSIX ACLs; equal files are stored twice unless they are hard links.
//
// Open reads filesystems of any maker that are compressed with zstd or gzip.
package squashfs
