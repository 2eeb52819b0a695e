#!/bin/sh
# `nm -n kernel | symbols.sh`: assembler text on stdout, a table {address, name} of
# the kernel's functions in ascending order, ended by an address of all ones.
set -eu
echo '.section .symbols, "a"'
echo '.balign 8'
echo '.globl symbol_table'
echo 'symbol_table:'
awk '$2 ~ /^[tT]$/ && $3 !~ /^\./ {
    printf ".quad 0x%s, name%d\n", $1, n
    names = names sprintf("name%d: .asciz \"%s\"\n", n++, $3)
}
END { print ".quad -1, 0"; printf "%s", names }'
echo '.section .note.GNU-stack,"",@progbits'
