#include "vmm/boot/foreign.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define HEAD_BYTES 2048
#define UNPACK     "unpack it, and give the bzImage or ELF kernel inside"
#define X86        "give one for x86: a bzImage or an ELF kernel"

/* The first that fits is named: more bytes before fewer. */
static const struct {
    unsigned at, bytes;
    const char *magic;
    const char *what, *remedy;
} kinds[] = {
    { 0x38, 4, "ARM\x64", "a Linux Image for 64-bit Arm", X86 },
    { 0x30, 5, "RISCV", "a Linux Image for RISC-V", X86 },
    { 0x38, 4, "RSC\x05", "a Linux Image for RISC-V", X86 },
    { 0x24, 4, "\x18\x28\x6f\x01", "a Linux zImage for 32-bit Arm", X86 },
    { 4, 4, "zimg", "a compressed EFI kernel (zboot), not for x86", X86 },
    { 0, 2, "MZ",
      "an EFI program (PE) without the Linux boot protocol, perhaps a unified kernel image",
      "take the kernel out: objcopy -O binary -j .linux FILE vmlinuz" },
    { 0, 4, "\x27\x05\x19\x56", "a U-Boot image (uImage)", UNPACK },
    { 0, 4, "\xd0\x0d\xfe\xed", "a device tree or a U-Boot FIT image", UNPACK },
    { 0, 8, "ANDROID!", "an Android boot image", UNPACK },
    { 0, 2, "\x1f\x8b", "compressed with gzip", UNPACK },
    { 0, 6,
      "\xfd"
      "7zXZ\0",
      "compressed with xz", UNPACK },
    { 0, 4, "\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK },
    { 0, 4, "\x02\x21\x4c\x18", "compressed with lz4", UNPACK },
    { 0, 4, "\x04\x22\x4d\x18", "compressed with lz4", UNPACK },
    { 0, 3, "BZh", "compressed with bzip2", UNPACK },
    { 0, 4, "\x89LZO", "compressed with lzo", UNPACK },
    { 0, 5, "\x5d\0\0\0\0", "compressed with lzma", UNPACK },
    { 0, 3, "\x5d\0\0", "compressed with lzma", UNPACK },
    { 0, 6, "070701", "a cpio archive, perhaps an initrd", "give it as the initrd, and a kernel" },
    { 0, 4, "QFI\xfb", "a disk image (qcow2)", "give it as a disk once it is raw, and a kernel" },
    { 0, 8, "!<arch>\n", "a Debian package or another ar archive",
      "take the kernel out: dpkg-deb -x FILE DIR, then give DIR/boot/vmlinuz-..." },
    { 0, 4, "\xed\xab\xee\xdb", "an RPM package",
      "take the kernel out: rpm2cpio FILE | cpio -id, then give its vmlinuz" },
    { 0, 2, "#!", "a script", "give a bzImage or an ELF kernel" },
    { 0x1fe, 2, "\x55\xaa", "a boot sector or a disk image",
      "a boot sector is plain code for 0x7c00 in 16-bit mode; a disk is given as one, and a "
      "kernel" },
    { 0x438, 2, "\x53\xef", "a file system (ext2, ext3 or ext4)",
      "give it as a disk, and a kernel with the boot argument root=/dev/vda" },
};

int foreign_refuse(const struct image *image, struct error *error)
{
    uint64_t bytes = image->size < HEAD_BYTES ? image->size : HEAD_BYTES;
    uint8_t head[HEAD_BYTES] = { 0 };
    int err = image_read(image, 0, head, bytes);

    if (err)
        return error_set(error, err, "%s: cannot read its start: %s; see to the file", image->name,
                         strerror(-err));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].at + kinds[i].bytes <= bytes &&
            memcmp(head + kinds[i].at, kinds[i].magic, kinds[i].bytes) == 0)
            return error_set(error, -ENOEXEC, "%s: is %s; %s", image->name, kinds[i].what,
                             kinds[i].remedy);
    }
    return error_set(
        error, -ENOEXEC,
        "%s: not a kernel that strata knows (it starts with %02x %02x %02x %02x): "
        "neither ELF nor bzImage nor Multiboot; for plain code say at which address it is to be",
        image->name, head[0], head[1], head[2], head[3]);
}
