#!/bin/sh
# programs.sh PROGRAM|LIBRARY.so...: assembler text on stdout that embeds the programs
# and shared libraries, each stripped and on a page boundary, and tables {name, start,
# bytes}: program_table of the ones, file_table of the others.
set -eu
symbol() { basename "$1" | tr -c 'a-zA-Z0-9\n' _; }
table() { # NAME FILE...
    name=$1
    shift
    echo ".globl ${name}_table, ${name}_count"
    echo "${name}_table:"
    for f in "$@"; do
        n=$(symbol "$f")
        echo ".quad name_$n, image_$n, image_${n}_end - image_$n"
    done
    echo "${name}_count: .quad $#"
}
programs= files=
for f in "$@"; do
    case $f in
    *.so) files="$files $f" ;;
    *) programs="$programs $f" ;;
    esac
done
echo '.section .programs, "a"'
for f in "$@"; do
    strip -o "$f.stripped" "$f"
    n=$(symbol "$f")
    echo ".balign 4096"
    echo "image_$n: .incbin \"$f.stripped\""
    echo "image_${n}_end:"
done
echo '.balign 4096'
echo '.section .rodata'
echo '.balign 8'
# Names without spaces, all of them.
# shellcheck disable=SC2086
table program $programs
# shellcheck disable=SC2086
table file $files
for f in "$@"; do
    echo "name_$(symbol "$f"): .asciz \"$(basename "$f")\""
done
echo '.section .note.GNU-stack,"",@progbits'
