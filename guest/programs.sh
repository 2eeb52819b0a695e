#!/bin/sh
# programs.sh PROGRAM...: assembler text on stdout that embeds the programs, each
# stripped and on a page boundary, and a table {name, start, bytes} of them.
set -eu
echo '.section .programs, "a"'
for p in "$@"; do
    strip -o "$p.stripped" "$p"
    n=$(basename "$p" | tr - _)
    echo ".balign 4096"
    echo "program_$n: .incbin \"$p.stripped\""
    echo "program_${n}_end:"
done
echo '.balign 4096'
echo '.section .rodata'
echo '.balign 8'
echo '.globl program_table, program_count'
echo 'program_table:'
for p in "$@"; do
    n=$(basename "$p" | tr - _)
    echo ".quad name_$n, program_$n, program_${n}_end - program_$n"
done
echo "program_count: .quad $#"
for p in "$@"; do
    echo "name_$(basename "$p" | tr - _): .asciz \"$(basename "$p")\""
done
echo '.section .note.GNU-stack,"",@progbits'
