#!/bin/sh
# Tests that need a working /dev/kvm, the same on each of the three hosts. Prints
# TAP, exits 1 if one failed. Needs build/, busybox sh and its applets, no more.
#
#   tests/guests/run.sh [--verbose] [GROUP…]    groups: see ALL below
#   tests/guests/run.sh --control [GROUP…]      every check must fail for a strata
#                                               that does nothing and says so
#
# STRATA_SLOW multiplies all time limits (emulated hosts set it).
cd "$(dirname "$0")/../.." || exit 2

ALL="misuse config broken boot sizes ends dead signals terminal console pc bundled devices network dma driver windows tour"
STRATA=${STRATA:-build/strata}
GUESTS=build/tests
verbose= control=
. tests/tap.sh

# --- running strata

# What is said of a host is not what a test is about, but for the one that asks.
set_apart() {
    sed -i.said '/^strata run: --cpuid .*, chosen because /d' "$err"
}

# Under a time limit; sets status (124: still running at the limit).
strata() {
    timeout -s KILL $((limit * SLOW)) "$STRATA" "$@" >"$out" 2>"$err" </dev/null
    status=$?
    set_apart
    [ $status -ne 137 ] && [ $status -ne 9 ] || status=124
    [ -z "$verbose" ] || echo "# strata $* -> $status"
}

# What is wrong with the last run, if anything; patterns are extended regular
# expressions, '' matches anything, '^$' is given as - (nothing at all).
wrong() { # STATUS STDOUT STDERR
    [ "$status" -eq "$1" ] || { echo "exit status $status, should be $1"; return; }
    matches "$out" "$2" || { echo "stdout does not match /$2/"; return; }
    matches "$err" "$3" || echo "stderr does not match /$3/"
}

matches() { # FILE PATTERN
    case $2 in
    '') ;;
    -) [ ! -s "$1" ] ;;
    *) grep -Eq -e "$2" "$1" ;;
    esac
}

expect() { # NAME STATUS STDOUT STDERR ARGUMENT…
    name=$1 want=$2 want_out=$3 want_err=$4
    shift 4
    strata "$@"
    verdict "$name" "$(wrong "$want" "$want_out" "$want_err")"
}

# Misuse: status 2, nothing on stdout, one line on stderr that matches.
misuse() { # NAME STDERR ARGUMENT…
    name=$1 want_err=$2
    shift 2
    strata "$@"
    why=$(wrong 2 - "$want_err")
    [ -n "$why" ] || [ "$(wc -l <"$err")" -eq 1 ] || why="more than one line on stderr"
    verdict "$name" "$why"
}

# In the background, stdin from a FIFO held open on descriptor 8; sets pid.
start() { # ARGUMENT…
    rm -f "$work/in" "$out" "$err"
    mkfifo "$work/in"
    "$GUESTS/with-signals" "$STRATA" "$@" <"$work/in" >"$out" 2>"$err" &
    pid=$!
    exec 8>"$work/in"
}

finish() { # sets status; kills what still runs
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    status=$?
    pid=
    exec 8>&-
    set_apart
}

# --- groups

group_misuse() {
    misuse "unknown command" "frobnicate" frobnicate
    misuse "unknown option" "frobnicate" run --frobnicate
    misuse "option without its value" "memory" run --memory
    misuse "help with a value" "--help takes no argument" run --help=me
    misuse "superfluous argument" "superfluous" run superfluous
    misuse "memory of 0" "memory" run --memory 0
    misuse "memory of 1 byte" "memory" run --memory 1
    misuse "memory that is not a number" "memory" run --memory much
    misuse "memory with an unknown unit" "memory" run --memory 5X
    misuse "memory beyond 64 bits" "memory" run --memory 99999999999999999999G
    misuse "negative memory" "memory" run --memory -1
    misuse "memory more than the host has" "memory|host" run --memory 8T
    misuse "0 CPUs" "cpus" run --cpus 0
    misuse "CPUs more than there can be" "cpus" run --cpus 100000
    misuse "CPUs that are not a number" "cpus" run --cpus two
    misuse "pages of an unknown size" "pages" run --pages 3k
    misuse "disk without a file" "disk" run --disk
    misuse "disk that is not there" "nothing.*No such file" run --disk "$work/nothing"
    misuse "disk that is not there, read-only" "nothing:.*No such file" run --disk "$work/nothing,ro"
    misuse "disk that is a folder" "directory|folder" run --disk "$work"
    misuse "disk that is no file" "neither a file nor" run --disk /dev/null
    : >"$work/empty"
    misuse "disk that is empty" "smaller than one sector" run --disk "$work/empty"
    head -c 4096 /dev/zero >"$work/twice"
    misuse "one disk for two" "in use .*another disk of this one; .*,ro" run --disk "$work/twice" --disk "$work/twice"
    misuse "a latency without a unit" "latency=2: not a time" run --disk "$work/twice,latency=2"
    misuse "a latency that is none" "latency=: not a time" run --disk "$work/twice,latency=,ro"
    misuse "a latency that is too long" "latency=20000ms: more than 10000ms" \
        run --disk "$work/twice,latency=20000ms"
    misuse "a word that no disk knows" "ro, root and latency=TIME" run --disk "$work/twice,latncy=2ms"
    misuse "a network of no kind" "nowhere: unknown; say user or tap=" run --net nowhere
    misuse "a network with an option it has not" "speed=9: unknown; say mac=" run --net user,speed=9
    misuse "an address of no device" "mac=01:00:00:00:00:00: no address" run --net user,mac=01:00:00:00:00:00
    misuse "two addresses" "mac= twice" run --net user,mac=02:00:00:00:00:01,mac=02:00:00:00:00:02
    misuse "ports forwarded by a tap" "hostfwd= is for --net user" run --net tap=x,hostfwd=tcp:1:1
    misuse "a port that is none" "hostfwd=tcp:0:22: say tcp:PORT" run --net user,hostfwd=tcp:0:22
    misuse "a tap that is not there" "tap=strata-none: there is no such interface; make it" \
        run --net tap=strata-none
    misuse "a tap with a name that cannot be" "no interface has such a name" \
        run --net tap=a-name-far-too-long
    misuse "sockets without a CID" "without cid=: say cid=N,path=SOCK" run --vsock path="$work/v"
    misuse "sockets without a path" "without path=" run --vsock cid=3
    misuse "the host's CID" "cid=2: give a number from 3" run --vsock cid=2,path="$work/v"
    misuse "two of them" "a machine has one" run --vsock cid=3,path="$work/v" --vsock cid=4,path="$work/w"
    misuse "a socket's path that is a file" "exists and is no socket" run --vsock cid=3,path="$work/twice"
    misuse "a socket's path that is too long" "path" \
        run --vsock cid=3,path="$work/$(printf '%0120d' 0)"
    misuse "a socket's path that leaves no room for a port" "at most 96 characters" \
        run --vsock cid=3,path="$(printf '%097d' 0)"
    misuse "a port without a name" "without name=: say name=NAME,path=SOCK" run --virtio-port path="$work/v"
    misuse "a port without a path" "without path=" run --virtio-port name=a
    misuse "a port with a word that it does not know" "id=1: unknown; say name=" run --virtio-port id=1
    misuse "a port with an empty name" "virtio-port: empty; give it" run --virtio-port name=,path="$work/v"
    misuse "a port with a name that is a path" "other than /" run --virtio-port name=a/b,path="$work/v"
    misuse "two ports of one name" "name=a twice" run --virtio-port name=a,path="$work/v" \
        --virtio-port name=a,path="$work/w"
    misuse "a port whose path is a file" "virtio-port: .*exists and is no socket" \
        run --virtio-port name=a,path="$work/twice"
    misuse "two ports at one path" "another process listens" run --virtio-port name=a,path="$work/v" \
        --virtio-port name=b,path="$work/v"
    misuse "unknown way to use the IOMMU" "sometimes.*off, bypass, strict or lazy" run --iommu sometimes
    misuse "a balloon that is no size" "not a size" run --balloon much
    misuse "a balloon as large as memory" "give less than 256M" run --balloon 256M
    misuse "two balloons" "a machine has one" run --balloon 0 --balloon 1M
    misuse "more devices than there is room for" "32 devices" run $(printf -- "--rng %.0s" $(seq 32)) \
        --virtio-console
    misuse "more devices than there is room for beside the IOMMU" "31 devices" run --iommu strict \
        $(printf -- "--rng %.0s" $(seq 31)) --virtio-console
    misuse "an unknown way of I/O" "maybe: unknown; say exits or thread" run --io maybe
    misuse "a watchdog of no time" "watchdog 0: not a time" run --watchdog 0
    misuse "a watchdog of much time" "watchdog much: not a time" run --watchdog much
    misuse "initrd without a kernel" "--initrd: no kernel is given" run --initrd "$work/empty"
    misuse "module without a kernel" "--module: no kernel is given" run --module "$work/empty"
    misuse "plain code without a kernel" "--flat: no kernel is given" run --flat 0x100000
    for value in x 1M 0x100000:x 0x100000, 0x100000,64x -1 99999999999999999999; do
        misuse "--flat $value" "say for example 0x100000,64" run --kernel "$work/twice" --flat $value
    done
    misuse "plain code of 8 bits" "say 16, 32 or 64" run --kernel "$work/twice" --flat 0x100000,8
    misuse "plain code beyond memory" "do not fit into RAM" run --kernel "$work/twice" --flat 0xfffff000
    misuse "plain code over the boot structures" "overlaps" run --kernel "$work/twice" --flat 0x10000
    misuse "plain code over the reset vector" "overlaps the reset vector at 0xffff0-0xfffff" \
        run --kernel "$work/twice" --flat 0xffff8
    misuse "a command of the bundled guest for another kernel" "exec: is for the bundled guest" \
        run --kernel "$work/twice" --flat 0x100000 --exec ls
    misuse "plain code entered elsewhere" "not in its" run --kernel "$work/twice" --flat 0x100000:0x200000
    for value in x 0 0xfffd 70000 0xf4x; do
        misuse "--debug-exit $value" "say for example 0xf4" run --debug-exit $value
    done
    misuse "--debug-exit on the serial port" "another device is there" run --debug-exit 0x3f8
    misuse "unknown exercise" "no-such" tour no-such
    misuse "unknown exercise to break" "no-such" tour --break no-such
    for command in run tour doctor; do
        expect "help of $command" 0 "Usage|usage" - $command --help
        expect "help of $command, in short" 0 "Usage|usage" - $command -h
    done
    expect "help" 0 "tour" - --help
    misuse "a feature that nobody has" 'cpuid: -avx3: no such feature; "avx" is the nearest' \
        run --cpuid -avx3
    misuse "a template that there is not" '"x86-64-v1" is the nearest' run --cpuid x86-64-v9
    misuse "a template after a feature" 'a template comes first' run --cpuid -avx,x86-64-v2
    misuse "an empty list of features" 'cpuid: empty' run --cpuid ""
    misuse "a list of commas" 'cpuid: empty' run --cpuid ,,
    misuse "a feature without a sign" 'cpuid: avx: show it or hide it\? say \+avx or -avx' run --cpuid avx
}

# A machine from a file: as it is written, and as it runs.
group_config() {
    head -c 1048576 /dev/zero >"$work/disk"
    expect "the machine of options as a file" 0 '"is_read_only": true' '' run --print-config \
        --memory 64M --cpus 1 --iommu strict --rng --disk "$work/disk,ro" --dma-probe --exec 'echo file'
    cp "$out" "$work/vm.json"
    strata run --config "$work/vm.json" --print-config
    why=$(wrong 0 '"mode": "strict"' '')
    cmp -s "$out" "$work/vm.json" || why="it is written otherwise than it was read"
    verdict "and the file as a file" "$why"
    expect "the file runs" 0 '1 CPU, 64 MiB' '' run --config "$work/vm.json"
    expect "it runs its own command" 0 '^file' '' run --config "$work/vm.json"
    strata run --config "$work/vm.json" --json "$work/run.json"
    why=$(wrong 0 '^file' '')
    for device in virtio-iommu virtio-blk virtio-rng; do
        grep -q "$device" "$work/run.json" || why="no $device"
    done
    verdict "with its devices" "$why"
    expect "an option has the last word" 0 '2 CPUs, 64 MiB' '' \
        run --exec 'echo option' --cpus 2 --config "$work/vm.json"
    expect "and adds disks" 0 '2 disks' '' \
        run --config "$work/vm.json" --disk "$work/disk,ro" --exec 'run disk info'
    strata run --device entropy --device dma-probe --print-config
    cp "$out" "$work/named.json"
    strata run --rng --dma-probe --print-config
    why=$(wrong 0 '"entropy"' '')
    cmp -s "$out" "$work/named.json" || why="another machine than by their own options"
    verdict "devices by their names" "$why"
    misuse "a device that there is not" "device floppy: .*there are entropy" run --device floppy
    misuse "a device that has settings" "device drives: .*there are entropy" run --device drives
    misuse "a file that is not there" "nothing: No such file" run --config "$work/nothing"
    misuse "two files" "config twice" run --config "$work/vm.json" --config "$work/vm.json"
    echo '{"machine-config": {"vcpu_cuont": 1}}' >"$work/bad.json"
    misuse "a field that there is not" "bad.json: machine-config.vcpu_cuont: there is no such field" \
        run --config "$work/bad.json"
    echo '{"drives": [{"path_on_host": 3}]}' >"$work/bad.json"
    misuse "a field of another type" "bad.json: drives.0..path_on_host: is a number; give a text" \
        run --config "$work/bad.json"
    echo '{"machine-config": {"mem_size_mib": 1}}' >"$work/bad.json"
    misuse "a value out of range" "bad.json: machine-config.mem_size_mib: 1 is not from 2" \
        run --config "$work/bad.json"
    echo '{"boot-source": {"initrd_path": "x"}}' >"$work/bad.json"
    misuse "fields that do not fit" "bad.json: boot-source.initrd_path: no kernel" \
        run --config "$work/bad.json"
    misuse "an option that does not fit the file" "strata run: --iommu maybe: unknown" \
        run --config "$work/vm.json" --iommu maybe
}

# ELF64 header: e_ident class at 4, e_machine at 18, e_phoff at 32, e_phentsize at
# 54, e_phnum at 56; the first program header at 64 (p_offset at 72, p_paddr at 88,
# p_filesz at 96, p_memsz at 104), the second at 120.
patched() { # NAME OFFSET BYTES-AS-OCTAL: prints the path
    cp "$GUESTS/status.elf" "$work/$1"
    # shellcheck disable=SC2059
    printf "$3" | dd of="$work/$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
    echo "$work/$1"
}

group_broken() {
    misuse "kernel that is not there" "No such file" run --kernel "$work/nothing"
    if [ "$(id -u)" -ne 0 ]; then
        : >"$work/closed"
        chmod 0 "$work/closed"
        misuse "kernel that cannot be read" "ermission" run --kernel "$work/closed"
    else
        skip "kernel that cannot be read" "root can read everything"
    fi
    misuse "kernel is a folder" "folder|directory" run --kernel "$work"
    mkfifo "$work/fifo"
    misuse "kernel is a FIFO" "FIFO|regular" run --kernel "$work/fifo"
    : >"$work/empty"
    misuse "empty kernel" "empty|short" run --kernel "$work/empty"
    echo "#!/bin/sh" >"$work/script"
    misuse "kernel is a text file" "ELF" run --kernel "$work/script"
    misuse "kernel of the other class than its machine" "e_machine" run --kernel "$(patched class 4 '\001')"
    misuse "kernel for another machine" "machine" run --kernel "$(patched machine 18 '\267\000')"
    misuse "kernel without program headers" "e_phnum|program header" \
        run --kernel "$(patched phnum 56 '\000\000')"
    misuse "program headers beyond the file" "truncated|beyond" \
        run --kernel "$(patched phoff 32 '\377\377\377\177')"
    misuse "program headers of a wrong size" "e_phentsize" \
        run --kernel "$(patched phentsize 54 '\001\000')"
    misuse "segment beyond the file" "truncated|beyond" \
        run --kernel "$(patched offset 72 '\000\000\000\177')"
    misuse "segment larger in the file than in memory" "p_filesz|p_memsz" \
        run --kernel "$(patched filesz 97 '\001')"
    misuse "segment that wraps around" "wrap|RAM|fit" \
        run --kernel "$(patched wraps 88 '\000\360\377\377\377\377\377\377')"
    misuse "entry outside every segment" "entry" \
        run --kernel "$(patched outside 88 '\000\000\000\000\000\001\000\000')"
    misuse "no PVH entry" "PVH" run --kernel "$(patched note 120 '\000')"
    for bytes in 3 17 63 100 4100; do
        head -c $bytes "$GUESTS/status.elf" >"$work/short"
        misuse "kernel truncated to $bytes bytes" "truncated|short|ELF" run --kernel "$work/short"
    done
    if [ -e build/guest/kernel.elf ]; then
        head -c 20000 build/guest/kernel.elf >"$work/short"
        misuse "bundled kernel, truncated" "truncated" run --kernel "$work/short"
    fi
    misuse "kernel that overlaps the end of RAM" "RAM|memory" \
        run --memory 64M --kernel "$GUESTS/oversized.elf"
    misuse "kernel with too little memory" "RAM|memory" run --memory 1M --kernel "$GUESTS/status.elf"
}

# Bytes patched in any of the guests, as above.
patched_of() { # GUEST OFFSET BYTES-AS-OCTAL: prints the path
    cp "$GUESTS/$1" "$work/patched-$1"
    # shellcheck disable=SC2059
    printf "$3" | dd of="$work/patched-$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
    echo "$work/patched-$1"
}

# Says all of these lines, in this order, and ends with 43: its own checks held.
hands_over() { # NAME LINES ARGUMENT…
    name=$1 lines=$2
    shift 2
    strata run --memory 64M --cpus 1 "$@"
    why=
    [ $status -eq 43 ] || why="exit status $status: $((status / 2)) is the number of the check in the guest"
    [ -n "$why" ] || [ "$(cat "$out")" = "$lines" ] || why="stdout is not: $lines"
    verdict "$name" "$why"
}

# Every boot protocol, by guests that check what they were handed.
group_boot() {
    printf 'first module\n' >"$work/one"
    printf 'second\n' >"$work/two"
    for kernel in multiboot.elf multiboot32.elf multiboot.bin; do
        path=$GUESTS/$kernel
        hands_over "$kernel: command line, memory and modules" "multiboot
strata
$path a=1 b
$work/one
first module
$work/two x y
second" --kernel "$path" --append "a=1 b" --module "$work/one" --module "$work/two x y"
    done
    hands_over "a Multiboot kernel without anything" "multiboot
strata
$GUESTS/multiboot.bin" --kernel "$GUESTS/multiboot.bin"
    hands_over "flat code in real mode" "flat16" --kernel "$GUESTS/flat16.bin" --flat 0x7c00:0x7c08,16
    hands_over "flat code in protected mode" "flat32
hello" --kernel "$GUESTS/flat32.bin" --flat 0x7c00:0x7c08 --append hello
    hands_over "flat code in 64-bit mode" "flat64
hello" --kernel "$GUESTS/flat64.bin" --flat 0x7c00:0x7c08,64 --append hello
    hands_over "a PVH kernel with an initrd" "handover
hello
first module" --kernel "$GUESTS/handover.elf" --append hello --initrd "$work/one" --debug-exit 0xf4
    hands_over "and without" "handover" --kernel "$GUESTS/handover.elf" --debug-exit 0xf4
    hands_over "a bzImage with an initrd" "bzimage
hello
first module" --kernel "$GUESTS/bzimage.bin" --force --append hello --initrd "$work/one" --debug-exit 0xf4

    # A text is on the console as it was given, up to the last byte that is allowed.
    long=$(head -c 2047 /dev/zero | tr '\0' x)
    strata run --kernel "$GUESTS/bzimage.bin" --force --memory 64M --append "$long" --debug-exit 0xf4
    verdict "a bzImage's command line of 2047 bytes" "$(wrong 43 "^x{2047}\$" '')"
    misuse "and of 2048" "2048 bytes long; the limit is 2047 .cmdline_size" \
        run --kernel "$GUESTS/bzimage.bin" --force --memory 64M --append "x$long"
    strata run --kernel "$GUESTS/multiboot.elf" --append "$long$long$long"
    verdict "a Multiboot kernel's of 6141" "$(wrong 43 " x{6141}\$" '')"

    # Where kernel code is interpreted, Linux is refused before it starts.
    backend=$("$STRATA" doctor --json - 2>/dev/null | sed -n 's/.*"backend": *"\([a-z]*\)".*/\1/p' | head -n 1)
    strata run --kernel "$GUESTS/bzimage.bin" --memory 64M --debug-exit 0xf4
    if [ "$backend" = software ]; then
        verdict "Linux on a KVM that interprets kernel code" \
            "$(wrong 3 - 'int3, cmpxchg16b and xrstor.*syscall does not change.*--force')"
    else
        verdict "Linux on a KVM that runs kernel code" "$(wrong 43 '^bzimage' -)"
    fi

    # The port can be put elsewhere, or be missing.
    expect "no port by which to end" 23 '^multiboot' 'halted with interrupts off' \
        run --kernel "$GUESTS/multiboot.elf" --debug-exit off --watchdog 1

    for bytes in 513 600 1023 1100; do
        head -c $bytes "$GUESTS/bzimage.bin" >"$work/short"
        misuse "bzImage truncated to $bytes bytes" "truncated|not a kernel|boot sector" run --kernel "$work/short"
    done
    misuse "bzImage of an old protocol" "2.11, older than 2.12" run --kernel "$(patched_of bzimage.bin 518 '\013\002')"
    misuse "bzImage of a 32-bit kernel" "32-bit kernel" run --kernel "$(patched_of bzimage.bin 566 '\000')"
    misuse "bzImage with too little memory" "needs 1048576 bytes .init_size" \
        run --force --kernel "$GUESTS/bzimage.bin" --memory 16M
    misuse "bzImage with a module" "give an initrd" run --kernel "$GUESTS/bzimage.bin" --module "$work/one"
    misuse "Multiboot with an initrd" "give it as a module" run --kernel "$GUESTS/multiboot.elf" --initrd "$work/one"
    misuse "Multiboot that wants a display" "video mode" \
        run --kernel "$(patched_of multiboot.bin 4 '\007\000\001\000\367\117\121\344')"
    misuse "Multiboot beyond memory" "RAM" run --memory 2M \
        --kernel "$(patched_of multiboot.bin 24 '\000\000\100\000')"
    misuse "module that is not there" "nothing: No such file" \
        run --kernel "$GUESTS/multiboot.elf" --module "$work/nothing"
    : >"$work/empty"
    truncate -s 80M "$work/large" 2>/dev/null || dd if=/dev/zero of="$work/large" bs=1 seek=80M count=1 2>/dev/null
    for kernel in bzimage.bin handover.elf; do
        misuse "$kernel: no such initrd" "nothing: No such file" \
            run --force --kernel "$GUESTS/$kernel" --initrd "$work/nothing"
        misuse "$kernel: empty initrd" "is empty" run --force --kernel "$GUESTS/$kernel" --initrd "$work/empty"
        misuse "$kernel: initrd that is a folder" "directory" \
            run --force --kernel "$GUESTS/$kernel" --initrd "$work"
        misuse "$kernel: initrd larger than memory" "--memory: .*initrd of 83886[0-9]* bytes does not fit" \
            run --force --memory 64M --kernel "$GUESTS/$kernel" --initrd "$work/large"
    done
    rm -f "$work/large"
    # sysfs says a page, and has less: as if somebody had cut the file meanwhile.
    misuse "initrd that gets shorter" "got shorter than 4096 bytes while it was read" \
        run --force --kernel "$GUESTS/bzimage.bin" --initrd /sys/devices/system/cpu/online
    printf '\037\213\010\000' >"$work/gz"
    misuse "a compressed kernel" "compressed with gzip; unpack" run --kernel "$work/gz"
}

# A file of so many bytes that takes no room: prints its path; fails where there can be none.
sparse() { # NAME BYTES
    truncate -s "$2" "$work/$1" 2>/dev/null && echo "$work/$1"
}

# Sizes, counts and addresses as nobody means them, in files and on the command line. Each is
# refused in one line, or does no harm.
group_sizes() {
    printf 'first module\n' >"$work/one"
    : >"$work/empty"
    [ -p "$work/fifo" ] || mkfifo "$work/fifo"
    # Fields of a bzImage: where, bytes, and what is said.
    while IFS=: read -r what at bytes said; do
        misuse "bzImage with $what" "$said" \
            run --force --memory 64M --kernel "$(patched_of bzimage.bin "$at" "$bytes")"
    done <<'CASES'
255 setup sectors:497:\377:truncated.*setup_sects
as much code as there can be:500:\377\377\377\377:truncated.*syssize
no code:500:\000\000\000\000:syssize is 0
init_size of 4 GiB:608:\377\377\377\377:needs 4294967295 bytes .init_size
init_size of 0:608:\000\000\000\000:init_size is 0
cmdline_size of 0:568:\000\000\000\000:cmdline_size is 0
pref_address at the end of all addresses:600:\377\377\377\377\377\377\377\377:pref_address
pref_address that wraps with init_size:600:\000\360\377\377\377\377\377\377:pref_address
a header of one byte:513:\000:a broken bzImage|syssize|older|init_size
CASES
    misuse "bzImage whose initrd must lie at 0" "does not fit.*initrd_addr_max" run --force --memory 64M \
        --kernel "$(patched_of bzimage.bin 556 '\000\000\000\000')" --initrd "$work/one"
    misuse "bzImage that lets its command line have 4 GiB" "limit is 65535;" run --force --memory 64M \
        --kernel "$(patched_of bzimage.bin 568 '\377\377\377\377')" --append "$(head -c 70000 /dev/zero | tr '\0' x)"

    # Fields of a Multiboot header, at the start of its file: header_addr at 12, load_addr,
    # load_end_addr, bss_end_addr, entry_addr.
    while IFS=: read -r what at bytes said; do
        misuse "Multiboot with $what" "$said" run --memory 64M --kernel "$(patched_of multiboot.bin "$at" "$bytes")"
    done <<'CASES'
a header at 4 GiB:12:\377\377\377\377:load_addr lies before the start
a header at 0:12:\000\000\000\000:header_addr is below load_addr
load_addr at 4 GiB:16:\376\377\377\377:header_addr is below load_addr
load_addr at 0:16:\000\000\000\000:load_addr lies before the start
load_end_addr at 4 GiB:20:\377\377\377\377:truncated: load_end_addr
load_end_addr at 1:20:\001\000\000\000:load_end_addr is not above load_addr
bss_end_addr at 4 GiB:24:\377\377\377\377:does not fit into RAM
bss_end_addr at 1:24:\001\000\000\000:bss_end_addr is below load_end_addr
entry_addr at 4 GiB:28:\377\377\377\377:entry_addr is not in the kernel
CASES

    # Fields of an ELF header, and of its first segment.
    while IFS=: read -r what at bytes said; do
        misuse "ELF with $what" "$said" run --kernel "$(patched hostile "$at" "$bytes")"
    done <<'CASES'
65535 program headers:56:\377\377:e_phnum|program header
program headers at the end of all addresses:32:\377\377\377\377\377\377\377\377:beyond|truncated
a segment at an offset that wraps:72:\377\377\377\377\377\377\377\377:beyond|truncated
a segment of 2^64 - 1 bytes in the file:96:\377\377\377\377\377\377\377\377:beyond|truncated|p_filesz
a segment of 2^64 - 1 bytes in memory:104:\377\377\377\377\377\377\377\377:wrap|RAM|fit
a segment over the boot structures:88:\000\000\001\000\000\000\000\000:overlaps|no segment
CASES

    # Plain code anywhere.
    for flat in 0xffffffffffffffff 0xfffffffffffff000 0x100000000 0x3fff000:0x3ffffff; do
        misuse "plain code at $flat" "RAM|entry|overlaps|beyond" \
            run --memory 64M --kernel "$GUESTS/multiboot.elf" --flat $flat
    done

    # Files that are all hole.
    if huge=$(sparse huge 2199023255552); then
        misuse "a kernel of 2 TiB" "not a kernel|ELF|kernel" run --kernel "$huge"
        misuse "plain code of 2 TiB" "do not fit into RAM" run --kernel "$huge" --flat 0x100000
        misuse "an initrd of 2 TiB" "initrd of 2199023255552 bytes does not fit" \
            run --force --memory 64M --kernel "$GUESTS/bzimage.bin" --initrd "$huge"
        misuse "a module of 2 TiB" "module of 2199023255552 bytes does not fit" \
            run --memory 64M --kernel "$GUESTS/multiboot.elf" --module "$huge"
        strata run --disk "$huge" --json "$work/run.json" --exec 'run hello'
        why=$(wrong 0 'hello' -)
        [ -n "$why" ] || grep -q '"sectors": 4294967296,' "$work/run.json" || why="not 2^32 sectors"
        verdict "a disk of 2 TiB" "$why"
        rm -f "$huge"
    else
        skip "files of 2 TiB" "no such file can be made in $work"
    fi
    misuse "an initrd that is a device" "is a special file" \
        run --force --kernel "$GUESTS/bzimage.bin" --initrd /dev/zero
    misuse "a module that is a FIFO" "is a FIFO" run --kernel "$GUESTS/multiboot.elf" --module "$work/fifo"

    # Command lines, up to the last byte that is allowed, and one more.
    long=$(head -c 65535 /dev/zero | tr '\0' x)
    expect "a PVH kernel's command line of 65535 bytes" 42 '^status' - \
        run --kernel "$GUESTS/status.elf" --append "$long"
    misuse "and of 65536" "65536 bytes long; the limit is 65535" \
        run --kernel "$GUESTS/status.elf" --append "x$long"
    misuse "a Multiboot kernel's of 65535" "limit" run --kernel "$GUESTS/multiboot.elf" --append "$long"
    misuse "plain code's of 65536" "the limit is 65535" \
        run --kernel "$GUESTS/flat32.bin" --flat 0x7c00:0x7c08 --append "x$long"
    misuse "the bundled guest's of 65535" "the limit is 2047" run --append "$long"

    # Disks.
    misuse "a disk of no bytes" "smaller than one sector" run --disk "$work/empty"
    head -c 511 /dev/zero >"$work/odd"
    misuse "a disk of 511 bytes" "smaller than one sector" run --disk "$work/odd"
    head -c 1535 /dev/zero >"$work/odd"
    strata run --disk "$work/odd" --json "$work/run.json" --exec 'run hello'
    why=$(wrong 0 'hello' "$work/odd is not .*does not see its last 511 bytes")
    [ -n "$why" ] || grep -q '"sectors": 2,' "$work/run.json" || why="not 2 sectors"
    verdict "a disk of 1535 bytes" "$why"
    misuse "a disk that is a directory" "is a directory" run --disk "$work"
    misuse "a disk that is a FIFO" "neither a file nor a block device" run --disk "$work/fifo"
    misuse "a disk that is a character device" "neither a file nor a block device" run --disk /dev/null
    ln -s loop "$work/loop"
    misuse "a disk that is a link to itself" "ymbolic link" run --disk "$work/loop"
    misuse "a disk with a name that no file can have" "too long" run --disk "$work/$(head -c 300 /dev/zero | tr '\0' x)"
    truncate -s 1M "$work/ro" 2>/dev/null || head -c 1048576 /dev/zero >"$work/ro"
    chmod 444 "$work/ro"
    if [ "$(id -u)" -ne 0 ]; then
        misuse "a disk that may not be written" "say --disk FILE,ro" run --disk "$work/ro"
    else
        skip "a disk that may not be written" "root may write everything"
    fi
    strata run --disk "$work/ro,ro" --exec 'run hello'
    verdict "and may be read" "$(wrong 0 'hello' '')"
}

group_ends() {
    expect "guest's exit status" 42 '^status' - run --kernel "$GUESTS/status.elf"
    expect "status of --exec: success" 0 'halt' '' run --exec 'help'
    expect "status of --exec: no such command" '127' '' '' run --exec 'no-such-command'
    expect "guest panic" 17 '^panic' 'guest panic' run --kernel "$GUESTS/panic.elf"
    expect "guest panic, bundled" 1 '' 'guest panic' run --exec panic
    expect "guest reset" 16 '^reboot' - run --kernel "$GUESTS/reboot.elf"
    expect "triple fault" 18 '^triple' 'triple fault' run --kernel "$GUESTS/triple.elf"
    expect "an internal error of KVM is named" 19 '^nowhere' 'KVM internal error.*cannot emulate' \
        run --kernel "$GUESTS/nowhere.elf"
    expect "a guest that pokes at everything" 0 '^hostile' '' run --kernel "$GUESTS/hostile.elf"
    # Limits of the shell that starts it: files of 512 bytes, 8 descriptors.
    there=$STRATA
    for words in '-f 1' '-n 8'; do
        printf '#!/bin/sh\nulimit %s\nexec %s "$@"\n' "$words" "$there" >"$work/limited${words#* }"
        chmod +x "$work/limited${words#* }"
    done
    STRATA=$work/limited1
    expect "a result that outgrows the limit of files" 42 '^status' '--json .*run.json: File too large' \
        run --kernel "$GUESTS/status.elf" --rng --rng --json "$work/run.json"
    STRATA=$work/limited8
    expect "too few file descriptors" 1 - 'Too many open files; give it more file descriptors' \
        run --kernel "$GUESTS/status.elf"
    STRATA=$there
}

# No guest dies without a word: what the report says, on standard error and as JSON.
reported() { # NAME STATUS STDERR GUEST ARGUMENT…
    name=$1 want=$2 want_err=$3 guest=$4
    shift 4
    strata run --kernel "$GUESTS/$guest.elf" --json "$work/run.json" "$@"
    why=$(wrong "$want" "^$guest" "$want_err")
    for line in '^vCPU 0: [a-z]+, interrupts off' 'walk of rip' 'walk of rsp' '^  rax ' "  [|] $guest"; do
        [ -n "$why" ] || matches "$err" "$line" || why="stderr does not match /$line/"
    done
    for field in '"why": "' '"code": \[' '"registers": {' '"rip_walk": {' '"rsp_walk": {' \
        "\"console\": \"$guest"; do
        [ -n "$why" ] || grep -q "$field" "$work/run.json" || why="its JSON lacks $field"
    done
    verdict "$name" "$why"
}

group_dead() {
    reported "a triple fault is reported" 18 'last exits: .*IO write 3f8' triple
    # On AMD the processor keeps nothing of what a triple fault was about.
    why=
    grep -Eq 'rip .* ud2|KVM on AMD resets' "$err" || why="neither the instruction nor why not"
    verdict "with its instruction, or why that is lost" "$why"
    reported "executing where there is no memory is reported" 19 'rip 00000000d0000000' nowhere
    reported "a halt with interrupts off" 23 'the vCPU is halted with interrupts off' idle --watchdog 1
    reported "the same on all vCPUs" 23 'all vCPUs are halted with interrupts off' halted \
        --cpus 2 --watchdog 1
    name="a loop with interrupts off"
    if [ "$SLOW" -lt 10 ]; then
        reported "$name" 23 'vCPU 0 spins with interrupts off near 0x10' spin-off --watchdog 1
    else
        # Bochs holds back its host's interrupts too.
        skip "$name" "not available here, because this host stands still with its guest"
    fi
    if [ "$SLOW" -lt 10 ]; then
        strata run --kernel "$GUESTS/broken.elf" --watchdog 1
        why=
        # It depends on the host whether the processor needs the tables again.
        case $status in
        18 | 23) ;;
        *) why="exit status $status" ;;
        esac
        [ -n "$why" ] || grep -q 'walk of rip' "$err" || why="no walk"
        [ -n "$why" ] || grep -Eq '0000007f00000003|KVM on AMD resets' "$err" ||
            why="neither the broken entry nor why not"
        verdict "broken page tables are reported" "$why"
    else
        skip "broken page tables are reported" "not available here, because this host stands still with its guest"
    fi
    expect "a watchdog does not end a guest that works" 0 'as the model says' - \
        run --watchdog 1 --exec "stress 8 2"

    # The control: a guest that waits is not dead.
    for guest in sleep spin; do
        start run --kernel "$GUESTS/$guest.elf" --watchdog 1
        why=
        await "$out" "^$guest" && sleep 3 || why="never printed anything"
        kill -TERM "$pid" 2>/dev/null || why="it was ended"
        [ -n "$why" ] || gone_within $((limit * 10)) || why="never ended"
        finish
        [ -n "$why" ] || [ $status -eq 143 ] || why="exit status $status"
        [ -n "$why" ] || [ ! -s "$err" ] || why="something on stderr"
        verdict "a watchdog lets a guest live, guest: $guest" "$why"
    done
    start run --watchdog 1
    why=
    await "$out" '[#$>] *$' && sleep 3 || why="no prompt"
    type_in 'halt 5'
    [ -n "$why" ] || gone_within $((limit * 10)) || why="still running"
    finish
    [ -n "$why" ] || [ $status -eq 5 ] || why="exit status $status"
    verdict "a watchdog lets the bundled guest wait at its prompt" "$why"

    # Without a watchdog, a signal tells at least this much.
    # It is dead some instructions after what it prints.
    for seconds in 0.2 2 10; do
        start run --kernel "$GUESTS/idle.elf"
        why=
        await "$out" '^idle' || why="never printed anything"
        sleep $seconds
        kill -TERM "$pid"
        gone_within $((limit * 10)) || why="never ended"
        finish
        [ -z "$why" ] || break
        why=$(wrong 143 '' 'vCPU 0 was halted with interrupts off at rip 0x10')
        [ -n "$why" ] || break
    done
    verdict "a signal to a dead guest leaves a line" "$why"
}

# SIGTERM and SIGINT end a run within a second, whatever the guest does. Other load may make
# one late, but not all; and none is for ever.
ends_by() { # NAME SIGNAL FUNCTION…: starts it, or says why not in $why
    name=$1 signal=$2
    shift 2
    for try in 1 2 3 4 5; do
        why= late=
        "$@"
        if [ -z "$why" ]; then
            kill -"$signal" "$pid" || why="it ended by itself"
            gone_within 10 || late="still there a second later"
            [ -z "$late" ] || gone_within $((limit * 10)) || why="never ended"
        fi
        finish
        case $why:$signal:$status in
        :TERM:143 | :INT:130) ;;
        :*) why="exit status $status, should be 128 and the signal's number" ;;
        esac
        [ -z "$why" ] && [ -n "$late" ] || break
    done
    verdict "$name" "${why:-$late}"
}
printing() { # GUEST
    start run --kernel "$GUESTS/$1.elf"
    await "$out" "^$1" || why="never printed anything"
}
# One end of it is open, and nobody reads.
unread() {
    "$GUESTS/with-signals" "$STRATA" run --kernel "$GUESTS/shout.elf" 8<>"$work/full" >"$work/full" 2>"$err" </dev/null &
    pid=$!
    sleep 1
}

group_signals() {
    for guest in idle spin shout; do
        ends_by "SIGTERM, guest: $guest" TERM printing $guest
        ends_by "SIGINT, guest: $guest" INT printing $guest
    done

    # The same with nobody who takes the output.
    mkfifo "$work/full"
    : >"$out"
    ends_by "SIGTERM while stdout takes nothing" TERM unread

    # SIGKILL leaves nothing: no process that has our FIFO or the VM open.
    start run --kernel "$GUESTS/spin.elf"
    why=
    await "$out" spin || why="never printed anything"
    before=$(children_of "$pid")
    kill -KILL "$pid"
    gone_within $((limit * 10)) || why="it is still there"
    finish
    for child in $before; do
        [ ! -d "/proc/$child" ] || why="its child $child is still there"
    done
    verdict "SIGKILL leaves no process" "$why"
}

children_of() { # PID
    for stat in /proc/[0-9]*/stat; do
        # The name, in parentheses, may hold spaces.
        sed -n "s/^\([0-9]*\) (.*) [A-Za-z] $1 .*/\1/p" "$stat" 2>/dev/null
    done
}

# A terminal on standard input: raw for a kernel, as it was for the bundled guest, and as it
# was at first afterwards, however it ends.
on_terminal() { # NAME STEP… -- ARGUMENT…
    name=$1 steps=
    shift
    "$GUESTS/with-terminal" "$@" >"$out" 2>"$err"
    status=$?
    # A run that ends at once would else be as good as one that works.
    why=$(wrong 0 '' '')
    [ -n "$why" ] || matches "$out" '^(echo|strata guest)' || why="the guest said nothing"
    verdict "$name" "$why"
}

group_terminal() {
    a=$(printf '\001')
    set -- "$STRATA" run --kernel "$GUESTS/echo.elf"
    on_terminal "every key reaches the guest, Ctrl-C too, and Ctrl-a x ends it" expect:echo raw \
        "send:q$(printf '\003\032\004\r')" "expect:<71>" "expect:<03>" "expect:<1a>" "expect:<04>" \
        "expect:<0d>" "send:${a}x" status:0 -- "$@"
    on_terminal "Ctrl-a twice, or and a, is one for the guest" expect:echo raw "send:${a}${a}b${a}ac" \
        "expect:<01>" "expect:<62>" "expect:<01>" "expect:<63>" "send:${a}x" status:0 -- "$@"
    on_terminal "Ctrl-a h helps" expect:echo raw "send:${a}h" "expect:Ctrl-a x ends" "send:${a}x" \
        status:0 -- "$@"
    # A guest that takes no input, with more keys than anybody keeps.
    keys=$(head -c 2000 /dev/zero | tr '\000' k)
    on_terminal "Ctrl-a x ends a guest that takes no keys" expect:echo raw "send:$keys" "send:${a}x" \
        status:0 -- sh -c "echo echo; exec '$STRATA' run --kernel '$GUESTS/sleep.elf'"
    for number in 1 2 3 6 11 15 40; do
        on_terminal "signal $number restores the terminal" expect:echo raw "signal:$number" \
            status:$((128 + number)) -- "$@"
    done
    on_terminal "and so does a stop; it is raw again when it goes on" expect:echo raw signal:20 \
        stopped cooked signal:18 raw "send:b" "expect:<62>" "send:${a}x" status:0 -- "$@"
    on_terminal "and a guest that crashes" expect:echo status:18 -- \
        sh -c "echo echo; exec '$STRATA' run --kernel '$GUESTS/triple.elf'"
    # The shell brings it to the foreground; what is typed before waits until then.
    on_terminal "from the background to the foreground: then it is raw" cooked expect:echo raw \
        "send:q" "expect:<71>" "send:${a}x" status:0 -- \
        sh -c "set -m; '$STRATA' run --kernel '$GUESTS/echo.elf' & sleep 2; fg"
    on_terminal "what is typed in the background waits for the foreground" "expect:> " "send:
" "send:halt 9
" status:9 -- sh -c "set -m; '$STRATA' run & sleep 2; fg"
    on_terminal "standard input that is none leaves the terminal alone" expect:echo cooked signal:15 \
        status:143 -- sh -c "exec '$STRATA' run --kernel '$GUESTS/echo.elf' </dev/null"
    on_terminal "the bundled guest has its terminal as it was, and Ctrl-C ends it" "expect:> " cooked \
        "send:$(printf '\003')" status:130 -- "$STRATA" run
    # The control: SIGKILL leaves it raw, which is seen.
    "$GUESTS/with-terminal" expect:echo raw signal:9 status:137 -- "$@" >"$out" 2>"$err"
    status=$?
    verdict "SIGKILL cannot be helped, and is seen" "$(wrong 1 '^echo' 'status 137, the terminal is raw')"
}

# The bundled guest's shell, on a console that is a pipe.
group_console() {
    limit=90
    start run
    if ! await "$out" '[#$>] *$'; then
        finish
        verdict "the bundled guest comes to its prompt" "no prompt"
        return
    fi
    verdict "the bundled guest comes to its prompt" ""
    type_in help
    why=
    await "$out" 'halt' || why="help did not list halt"
    verdict "help lists the commands" "$why"
    exec 8>&-
    sleep 1
    why=
    kill -0 "$pid" 2>/dev/null || why="it ended at the end of its input"
    verdict "at end of input the guest keeps running" "$why"
    finish

    start run
    await "$out" '[#$>] *$' && type_in halt
    why=
    gone_within $((limit * 10)) || why="still running"
    finish
    [ -n "$why" ] || [ $status -eq 0 ] || why="exit status $status"
    verdict "halt ends it with status 0" "$why"
    limit=60
}

# Word N, from 1, of what pc.elf printed about CPUID; 0 where there is none.
word() { # FILE N
    sed -n "$2s/^\([0-9a-f]\{8\}\)\$/\1/p" "$1" | grep . || echo 0
}

# How the file of a run with something hidden may differ from the one without: lacks
# exactly these bits of word N, and has no bit that was not there.
lacks() { # N BITS
    was=$((0x$(word "$work/all" "$1"))) is=$((0x$(word "$out" "$1")))
    [ $((was & $2)) -ne 0 ] || echo "word $1 never had $2"
    [ $is -eq $((was & ~$2)) ] || echo "word $1 is $is, was $was"
}

group_pc() {
    limit=90
    pc=$GUESTS/pc.elf
    expect "ACPI poweroff is status 0" 0 '^off$' - run --kernel "$pc" --append o
    expect "ACPI reset is a status of its own" 16 '^resetting$' - run --kernel "$pc" --append r --json "$work/run.json"
    why=
    grep -q '"reason": "guest reset"' "$work/run.json" || why="its JSON does not say so"
    verdict "and is told from poweroff" "$why"
    expect "so does the reset vector" 16 '^resetting$' - run --kernel "$pc" --append v
    expect "the PIC is masked until somebody initialises it" 0 '^masked$' - run --kernel "$pc" --append i
    expect "a panic by pvpanic is too, and told" 17 '^panicking$' 'panic' run --kernel "$pc" --append x
    expect "the interval timer is there when it is used" 0 '^counted$' - \
        run --kernel "$pc" --append p

    before=$(date -u +%Y%m%d%H%M)
    strata run --kernel "$pc" --append t
    why=$(wrong 0 '' -)
    clock=$(sed -n 's/^000000//p' "$out" | head -n 6 | tr -d '\n')
    after=$(date -u +%Y%m%d%H%M)
    [ -n "$why" ] || { [ "$clock" -ge "$before" ] && [ "$clock" -le "$after" ]; } 2>/dev/null ||
        why="it shows '$clock', not $before to $after"
    verdict "the clock shows the host's time, UTC" "$why"

    strata run --kernel "$pc" --append c
    why=$(wrong 0 '' -)
    cp "$out" "$work/all"
    [ -n "$why" ] || [ "$(wc -l <"$out")" -eq 7 ] || why="it says too little"
    [ -n "$why" ] || [ "$(word "$out" 7)" != 00000000 ] || why="no frequency of the TSC"
    verdict "a guest reads CPUID, the TSC's frequency too" "$why"
    # Word 1: leaf 1 ecx, 2: edx, 3: leaf 7 ebx, 4 and 5: leaf 0x80000001 ecx and edx, 6: 0xd.
    if "$STRATA" doctor 2>/dev/null | grep -q 'KVM backend *software'; then
        expect "--cpuid where masks have no effect" 2 - 'not available here, because' \
            run --kernel "$pc" --cpuid -popcnt
        limit=60
        return
    fi
    strata run --kernel "$pc" --append c --cpuid host
    why=$(wrong 0 '^[0-9a-f]{8}$' -)
    ! grep -q 'chosen because' "$err.said" || why="something else was chosen"
    verdict "--cpuid host shows all" "$why"
    cp "$out" "$work/host"
    strata run --kernel "$pc" --append c
    why=$(wrong 0 '^[0-9a-f]{8}$' -)
    if grep -q 'cpuid no-xsave, chosen because' "$err.said"; then
        [ "$(word "$out" 6)" = 00000000 ] || why="there is state to save without xsave"
        [ "$(word "$work/host" 6)" != 00000000 ] || why="it was not needed"
    elif [ -s "$err.said" ]; then
        why="unknown: $(head -n 1 "$err.said")"
    else
        cmp -s "$out" "$work/host" || why="something is hidden, and nobody says so"
    fi
    "$STRATA" doctor >"$work/doctor" 2>&1
    if grep -q '^quirks *xsave\|^ *xsave  ' "$work/doctor"; then
        grep -q 'no-xsave, chosen' "$err.said" || why="nothing is chosen where doctor's probe says it should"
    elif grep -q 'no-xsave, chosen' "$err.said"; then
        why="no-xsave is chosen where doctor's probe finds no fault"
    fi
    verdict "what breaks guests on a host is hidden, and nothing else, and it says so" "$why"
    cp "$work/host" "$work/all"
    strata run --kernel "$pc" --append c --cpuid host,-popcnt,-cx16
    verdict "--cpuid hides two features, and nothing else" "$(wrong 0 '^[0-9a-f]{8}$' -; lacks 1 $((1 << 23 | 1 << 13)))"
    strata run --kernel "$pc" --append c --cpuid host,-ssse3
    verdict "what depends on a hidden feature is hidden as well" \
        "$(wrong 0 '^[0-9a-f]{8}$' -; lacks 1 $((0x$(word "$work/all" 1) & (1 << 9 | 1 << 19 | 1 << 20))))"
    strata run --kernel "$pc" --append c --cpuid x86-64-v2
    is=$((0x$(word "$out" 1)))
    why=$(wrong 0 '' -)
    [ $((is & 0x982201)) -eq $((0x982201)) ] || why="leaf 1 lacks what level 2 is, $(word "$out" 1)"
    [ $((is & 0x7e401000)) -eq 0 ] || why="leaf 1 has more than level 2, $(word "$out" 1)"
    [ $((0x$(word "$out" 3) & ~0x100283)) -eq 0 ] || why="leaf 7 has more, $(word "$out" 3)"
    [ "$(word "$out" 6)" = 00000000 ] || why="there is state to save without xsave"
    verdict "--cpuid x86-64-v2 shows that level and no more" "$why"
    strata run --kernel "$pc" --append c --cpuid x86-64-v2,+x2apic,-lahf_lm
    why=$(wrong 0 '^[0-9a-f]{8}$' -)
    [ $((0x$(word "$out" 4) & 1)) -eq 0 ] || why="lahf_lm is still there"
    verdict "and can be changed" "$why"
    expect "what KVM cannot show is refused" 2 - 'cpuid: .avx512_4vnniw: ' \
        run --kernel "$pc" --cpuid +avx512_4vnniw
    limit=60
}

# The bundled guest's own programs, in machines of other shapes too.
group_bundled() {
    limit=180
    for cpus in 1 2 4; do
        expect "stress on $cpus vCPUs: memory as the model says" 0 'as the model says' '' \
            run --cpus $cpus --exec "stress 60 $cpus"
    done
    expect "a program's status is the exit status" 7 '' '' run --exec 'run status 7'
    expect "a forbidden access ends a program, not the guest" 139 'crash.*exception 14' '' \
        run --exec 'run crash'
    for cpu in 0 1; do
        expect "and its companion on CPU $cpu" 139 'crash.*exception 14' '' \
            run --cpus 2 --exec "run crash 4096 $cpu"
    done
    expect "a companion on a CPU that there is not" 1 '^strata guest: 2 CPUs' '' run --cpus 2 --exec 'run crash 4096 2'
    expect "an unknown program" 127 'no such program' '' run --exec 'run nothing'
    expect "a program the loader cannot copy a variable for" 126 'link-copy: R_X86_64_COPY at 0x' \
        '' run --exec 'run link-copy'
    expect "a program that needs what no library has" 126 "link-missing: nobody has 'figures_missing'" \
        '' run --exec 'run link-missing'
    expect "little memory" 0 'total 8192 KiB' '' run --memory 8M --exec mem
    name="memory on both sides of the hole below 4 GiB"
    if [ "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)" -gt 3300000 ]; then
        expect "$name" 0 'total 3162112 KiB' '' run --memory 3088M --exec mem
    else
        skip "$name" "this host has less memory than that"
    fi
    expect "memory that is no multiple of 2M" 0 'total 10500 KiB' '' \
        run --memory 10500K --exec mem
    expect "transparent huge pages behind it" 0 'free' '' run --pages thp --exec mem

    # Preemption: two that never give way share one vCPU with the shell.
    start run --cpus 1
    type_in 'spin 100000 &\nspin 100000 &\nps\nkill 2\nkill 3\necho all gone\nhalt 5'
    why=
    gone_within $((limit * 10)) || why="still running"
    finish
    [ -n "$why" ] || [ $status -eq 5 ] || why="exit status $status"
    [ -n "$why" ] || grep -q 'all gone' "$out" || why="the shell did not get its turn"
    verdict "input typed early is kept, and spinning programs are preempted" "$why"
    limit=60
}

# How the bundled guest's driver treats the IOMMU, as the device saw it: no mistakes.
group_driver() {
    limit=180
    head -c 1048576 /dev/zero >"$work/disk"
    for mode in bypass strict lazy; do
        for command in "run dma-check" "run disk fill 0 7"; do
            strata run --iommu $mode --disk "$work/disk" --rng --virtio-console --dma-probe \
                --json "$work/run.json" --exec "$command"
            why=$(wrong 0 '' '')
            for field in '"requests": [1-9]' '"refused": 0,' '"unanswered": 0,' '"careless": 0,' \
                '"short_event_buffers": 0' '"bad_accesses": 0,' '"needed_resets": 0,'; do
                [ -n "$why" ] || report_of virtio-iommu | grep -q "$field" ||
                    why="its JSON lacks $field"
            done
            verdict "iommu $mode: $command: every request of the driver is in order" "$why"
        done
    done
    strata run --balloon 4M --json "$work/run.json" --exec "run fork-cow 64 1"
    why=$(wrong 0 '' '')
    for field in '"actual_pages": 1024,' '"inflated_bytes": 4194304,' '"bad_ranges": 0,' \
        '"needed_resets": 0,'; do
        [ -n "$why" ] || report_of virtio-balloon | grep -q "$field" || why="its JSON lacks $field"
    done
    verdict "a balloon of 4 MiB is filled" "$why"
    # The control: mistakes would be counted.
    hammer --iommu strict --append "seed=1 steps=200" --json "$work/run.json"
    why=
    for field in '"refused": [1-9]' '"unanswered": [1-9]' '"bad_accesses": [1-9]'; do
        report_of virtio-iommu | grep -q "$field" || why="its JSON lacks $field"
    done
    verdict "a driver that is out of order is noticed" "$why"
    limit=60
}

# A guest that hammers every device's window, with every device there is.
hammer() { # ARGUMENT…
    head -c 1048576 /dev/zero >"$work/disk"
    strata run --kernel "$GUESTS/windows.elf" --memory 16M --cpus 1 --disk "$work/disk" --rng \
        --virtio-console --dma-probe "$@"
}

group_windows() {
    limit=90
    steps=2000 seeds="1 2 3"
    [ "$SLOW" -lt 10 ] || steps=200 seeds=1
    for seed in $seeds; do
        hammer --iommu strict --append "seed=$seed steps=$steps"
        verdict "a guest that hammers every device's window, seed $seed" \
            "$(wrong 0 'windows: kicks .* damaged 0$' -)"
    done
    hammer --cpus 2 --iommu strict --append "seed=4 steps=$steps cpus=2"
    verdict "two vCPUs that hammer them at once" \
        "$(wrong 0 'windows: kicks .* second-cpu [1-9][0-9]* damaged 0$' -)"
    hammer --cpus 2 --io thread --iommu strict --append "seed=5 steps=$steps cpus=2"
    verdict "and notify the I/O thread" \
        "$(wrong 0 'windows: kicks .* second-cpu [1-9][0-9]* damaged 0$' -)"
    # It would show: without an IOMMU the same devices do get at the canary.
    hammer --iommu off --append "seed=1 steps=$((steps < 500 ? steps : 500))"
    verdict "and without an IOMMU it gets at memory" "$(wrong 3 'windows: kicks .* damaged [1-9]' -)"
}

# What the run's JSON says of one device: its fields, one to a line.
report_of() { # NAME, in $work/run.json
    sed -n "/\"name\": \"$1\"/,/^    }/p" "$work/run.json"
}

# More devices than there are interrupt lines for them: 24 disks and three others.
many_devices() { # WAY to use the IOMMU
    mode=$1
    set --
    for number in $(seq 24); do
        head -c 65536 /dev/zero >"$work/many-$number"
        set -- "$@" --disk "$work/many-$number"
    done
    strata run --iommu "$mode" "$@" --rng --virtio-console --balloon 0 --json "$work/run.json" \
        --exec "run disk each $$"
    why=$(wrong 0 '24 disks, each with what is its own' '')
    [ -n "$why" ] || [ "$(report_of virtio-blk | grep -c '"interrupts": [1-9]')" = 24 ] ||
        why="not every disk interrupted"
    [ -n "$why" ] || [ "$(report_of virtio-blk | grep -c '"write_bytes": 65536')" = 24 ] ||
        why="not every disk was written"
    [ -n "$why" ] || [ "$(md5sum "$work"/many-* | cut -d' ' -f1 | sort -u | wc -l)" = 24 ] ||
        why="two files are the same"
    verdict "iommu $mode: 27 devices on shared interrupt lines, each works" "$why"
}

# The devices of `run`, with the bundled guest's drivers, in each mode of the IOMMU.
group_devices() {
    limit=180
    many_devices off
    many_devices strict
    for mode in off bypass strict lazy; do
        disk=$work/disk-$mode
        head -c 1048576 /dev/zero >"$disk"
        strata run --iommu $mode --disk "$disk" --json "$work/run.json" --exec "run disk fill 0 $$"
        why=$(wrong 0 'as it should be' '')
        [ -n "$why" ] || [ "$(tr -d '\000' <"$disk" | wc -c)" -gt 900000 ] || why="the file was not written"
        for field in '"kicks": [1-9]' '"interrupts": [1-9]' '"write_bytes": 1048576' \
            '"dma_faults": 0,' '"needed_reset": null'; do
            [ -n "$why" ] || report_of virtio-blk | grep -q "$field" || why="its JSON lacks $field"
        done
        [ -n "$why" ] || [ $mode = off ] || report_of virtio-blk | grep -q '"endpoint": [0-9]' ||
            why="it was not behind the IOMMU"
        verdict "iommu $mode: a disk is written, and reads as it was written" "$why"

        sum=$(md5sum <"$disk")
        strata run --iommu $mode --disk "$disk,ro" --exec "run disk verify 0 0 1048576 $$"
        why=$(wrong 0 'as it should be' '')
        verdict "iommu $mode: another machine reads the same" "$why"
        strata run --iommu $mode --disk "$disk,ro" --exec "run disk write 0 0 4096 1"
        why=
        [ $status -ne 0 ] && [ $status -ne 124 ] || why="exit status $status for a write"
        [ -n "$why" ] || grep -q 'disk write: error' "$out" || why="the program did not say so"
        [ -n "$why" ] || [ "$sum" = "$(md5sum <"$disk")" ] || why="the file has changed"
        verdict "iommu $mode: a read-only disk is not written" "$why"

        expect "iommu $mode: the entropy device" 0 '65536 random bytes' '' \
            run --iommu $mode --rng --json "$work/run.json" --exec "run disk random 65536"
        why=
        report_of virtio-rng | grep -q '"kicks": [1-9]' || why="nobody kicked it"
        verdict "iommu $mode: the bytes came from it" "$why"

        strata run --iommu $mode --virtio-console --json "$work/run.json" \
            --append console=virtio --exec "echo by virtio"
        why=$(wrong 0 '^by virtio' -)
        [ -n "$why" ] || report_of virtio-console | grep -q '"kicks": [1-9]' || why="nobody kicked it"
        verdict "iommu $mode: the guest speaks by the virtio console" "$why"
    done

    # The control: a byte that the host changes is noticed.
    disk=$work/disk-off
    printf x | dd of="$disk" bs=1 seek=70000 conv=notrunc 2>/dev/null
    expect "a byte changed in the file is noticed" 1 'sector 136, word 46 differs' '' \
        run --disk "$disk,ro" --exec "run disk verify 0 0 1048576 $$"
    head -c 65536 /dev/zero >"$work/zero"
    expect "two disks and others at once" 0 '2 disks' '' \
        run --iommu strict --rng --disk "$disk" --virtio-console --disk "$work/zero,ro" \
        --exec "run disk info"
    expect "the second is the second" 0 'as it should be' '' \
        run --iommu strict --disk "$disk" --disk "$work/zero,ro" --exec "run disk zero 1 0 65536"

    # A disk that takes its time: nothing comes before, and all of it comes.
    for words in latency=3ms ro,latency=3000us; do
        strata run --disk "$work/zero,$words" --json "$work/run.json" --exec 'run disk many 0 4096 4 16'
        why=$(wrong 0 ' 16 done, 0 errors' '')
        shortest=$(sed -n 's/.*"shortest_ns": \([0-9]*\).*/\1/p' "$work/run.json")
        [ -n "$why" ] || [ "${shortest:-0}" -ge 3000000 ] || why="a request took $shortest ns"
        verdict "a disk with $words" "$why"
    done

    # Disks as memory: faults and system calls that wait for pages.
    for mode in off bypass strict lazy; do
        for words in latency=1ms ''; do
            head -c 263680 /dev/zero >"$work/pages"
            strata run --iommu $mode --disk "$work/pages${words:+,$words}" --json "$work/run.json" \
                --exec disk-check
            why=$(wrong 0 '^said by pages of a disk' '')
            [ -n "$why" ] || grep -q ' checks, 0 failed' "$out" || why="checks failed"
            [ -n "$why" ] || report_of virtio-blk | grep -q '"dma_faults": 0,' || why="DMA faults"
            verdict "iommu $mode: a disk${words:+ with $words} as memory" "$why"
        done
    done
    # The control: it looks at what is there.
    expect "what is not on the disk is noticed" 1 'not ok: what was written' '' \
        run --disk "$work/pages" --exec 'disk-check wrong'

    # A page that is gone when somebody touches it: the end of that program, not of the guest.
    head -c 263680 /dev/zero >"$work/pages"
    start run --disk "$work/pages"
    why=
    { await "$out" '[#$>] *$' && type_in 'run disk-check lost'; } || why="no prompt"
    [ -n "$why" ] || await "$out" 'ready' || why="it did not get that far"
    head -c 200000 /dev/zero >"$work/pages"
    type_in '\necho still there\nhalt 6'
    [ -n "$why" ] || gone_within $((limit * 10)) || why="still running"
    finish
    [ -n "$why" ] || [ $status -eq 6 ] || why="exit status $status"
    for words in 'the disk cannot read the page at' '\[135\]' 'still there'; do
        [ -n "$why" ] || grep -Eqa "$words" "$out" || why="stdout lacks /$words/"
    done
    verdict "a page that the disk has lost ends a program, not the guest" "$why"

    # A disk in memory has answered before a kick returns, so the driver's handler gives up
    # after some rounds and polls, with its interrupt pending. That must not cost it the next.
    name="interrupts come after the driver has polled a disk"
    if shm=$(mktemp -p /dev/shm 2>/dev/null); then
        head -c 1048576 /dev/zero >"$shm"
        start run --disk "$shm"
        type_in 'disk many 0 4096 4 100\ndisk many 0 4096 4 100\nhalt 5'
        why=
        gone_within $((limit * 10)) || why="still running"
        finish
        rm -f "$shm"
        [ -n "$why" ] || [ $status -eq 5 ] || why="exit status $status"
        [ -n "$why" ] || [ "$(grep -c ' 100 done, 0 errors' "$out")" -eq 2 ] || why="not both are done"
        verdict "$name" "$why"
    else
        skip "$name" "no files in memory: /dev/shm is not there"
    fi

    # A guest with a driver of its own, which then breaks the rules.
    strata run --kernel "$GUESTS/virtio.elf" --rng --virtio-console --json "$work/run.json"
    why=$(wrong 0 '^hello by virtio$' -)
    for field in '"kicks": 2' '"needed_resets": 1' '"needed_reset": ".*loop"'; do
        [ -n "$why" ] || report_of virtio-console | grep -q "$field" || why="its JSON lacks $field"
    done
    verdict "a virtio console says hello, and that it needs a reset" "$why"
    expect "a driver that ignores the IOMMU is refused" 3 - - \
        run --kernel "$GUESTS/virtio.elf" --virtio-console --iommu strict
    expect "a kernel without a driver for the IOMMU is told" 4 - 'needs one for virtio-iommu' \
        run --kernel "$GUESTS/virtio.elf" --append platform --virtio-console --iommu strict

    # The guest's driver only writes: input is the serial port's.
    start run --virtio-console --append console=virtio
    why=
    { await "$out" '[#$>] *$' && type_in 'halt 9'; } || why="no prompt"
    [ -n "$why" ] || gone_within $((limit * 10)) || why="still running"
    finish
    [ -n "$why" ] || [ $status -eq 9 ] || why="exit status $status"
    verdict "a virtio console whose driver only writes takes no input away" "$why"
    limit=60
}

# The helper of this strata.
helper_of() { # PID
    for file in /proc/[0-9]*/status; do
        grep -qs '^Name:.*strata-net' "$file" && grep -qs "^PPid:.$1\$" "$file" &&
            echo "$file" | sed 's,[^0-9],,g'
    done
}

# Whether somebody of this host has a TCP port.
taken() { # PORT
    grep -qs "^ *[0-9]*: [0-9A-F]*:$(printf %04X "$1") " /proc/net/tcp /proc/net/tcp6
}

# Without a guest's driver; with one it is tests/guests/linux.sh's.
group_network() {
    port=$((20000 + $$ % 10000))
    while taken $port; do
        port=$((port + 1))
    done
    strata run --net user,mac=02:00:00:00:00:09 --json "$work/run.json" --exec "status 5"
    why=$(wrong 5 '' -)
    for field in '"guest_mac": *"02:00:00:00:00:09"' '"link": *true' '"received_frames": *0'; do
        [ -n "$why" ] || grep -q "$field" "$work/run.json" || why="its JSON lacks $field"
    done
    verdict "a network that no driver uses" "$why"
    strata run --vsock cid=3,path="$work/$(printf '\377')" --json "$work/run.json" --exec "status 5"
    why=$(wrong 5 '' -)
    [ -n "$why" ] || grep -q '"uds_path": *null' "$work/run.json" || why="its JSON lacks the device"
    verdict "a socket whose path is no text" "$why"

    cp "$STRATA" "$work/strata"
    there=$STRATA
    STRATA=$work/strata
    misuse "a helper that is not there" "strata-net: No such file.*libslirp-dev.*make" run --net user
    printf '#!/bin/sh\nexit 0\n' >"$work/strata-net"
    chmod +x "$work/strata-net"
    misuse "a helper that ends at once" "it ended at once" run --net user
    STRATA=$there

    name="the helper ends with strata, however that ends"
    start run --net user,hostfwd=tcp:$port:22
    why=
    await "$out" '^> ' || why="no prompt"
    helper=$(helper_of "$pid")
    [ -n "$why" ] || [ -n "$helper" ] || why="there is no helper"
    [ -n "$why" ] || { cp "$out" "$out.1"
        strata run --net user,hostfwd=tcp:$port:22
        twice=$(wrong 2 - "port $port of the host: Address already in use")
        cp "$out.1" "$out"; }
    finish
    pid=$helper
    [ -n "$why" ] || gone_within $((limit * 10)) || why="the helper lives on"
    pid=
    verdict "$name" "$why"
    verdict "a port that somebody has" "${twice-no helper}"
}

# The bundled guest's DMA API, which dma-check drives by the DMA probe.
group_dma() {
    limit=180
    for mode in off bypass strict lazy; do
        expect "iommu $mode: data, reach and faults of the DMA probe" 0 ' checks, 0 failed' '' \
            run --iommu $mode --dma-probe --exec dma-check
        head -c 1048576 /dev/zero >"$work/disk"
        expect "iommu $mode: many requests under way at once" 0 ' 300 done, 0 errors' '' \
            run --iommu $mode --disk "$work/disk" --exec 'run disk many 0 4096 32 300 random writes'
        expect "iommu $mode: flush" 0 'flush: done' '' run --iommu $mode --disk "$work/disk" --exec 'run disk flush 0'
        strata run --iommu $mode --virtio-console --append console=virtio \
            --json "$work/run.json" --exec 'hello by virtio'
        why=$(wrong 0 '^hello from pid 2 by virtio' '')
        [ -n "$why" ] || report_of virtio-console | grep -q '"kicks": [1-9]' || why="nobody kicked it"
        verdict "iommu $mode: console=virtio" "$why"
    done
    expect "two probes on four CPUs" 0 ' checks, 0 failed' '' \
        run --iommu strict --cpus 4 --dma-probe --dma-probe --exec dma-check
    for mode in off strict lazy; do
        head -c 1048576 /dev/zero >"$work/disk"
        strata run --io thread --iommu $mode --disk "$work/disk" --json "$work/run.json" \
            --exec 'run disk many 0 4096 32 300 random writes'
        why=$(wrong 0 ' 300 done, 0 errors' '')
        for field in '"queues": 1,' '"notifications": [1-9]' '"wakeups": [1-9]' '"error": null'; do
            [ -n "$why" ] || grep -A 5 '"io": {' "$work/run.json" | grep -q "$field" ||
                why="its JSON lacks $field"
        done
        [ -n "$why" ] || report_of virtio-blk | grep -q '"dma_faults": 0,' || why="DMA faults"
        verdict "iommu $mode: the same on the I/O thread" "$why"
    done
    strata run --io thread --iommu strict --disk "$work/disk" --exec "run disk fill 0 $$"
    verdict "a disk is written on the I/O thread" "$(wrong 0 'as it should be' '')"
    strata run --disk "$work/disk,ro" --exec "run disk verify 0 0 1048576 $$"
    verdict "and read on a vCPU's" "$(wrong 0 'as it should be' '')"
    strata run --io thread --virtio-console --append console=virtio --json "$work/run.json" \
        --exec 'hello by virtio'
    why=$(wrong 0 '^hello from pid 2 by virtio' '')
    [ -n "$why" ] || grep -q '"notifications": [1-9]' "$work/run.json" || why="nothing was notified"
    verdict "console=virtio on the I/O thread" "$why"
    # The control: by default there is none.
    strata run --disk "$work/disk" --json "$work/run.json" --exec 'run disk flush 0'
    why=$(wrong 0 'flush: done' '')
    [ -n "$why" ] || grep -q '"io": null' "$work/run.json" || why="there was an I/O thread"
    verdict "without --io thread there is none" "$why"
    # The control: what translation forbids is seen where nothing translates.
    expect "without translation dma-check sees it" 1 'not ok: reading after unmap' '' \
        run --iommu bypass --dma-probe --exec 'dma-check strict'
    limit=60
}

group_tour() {
    limit=360
    expect "doctor" 0 'KVM|kvm' '' doctor
    strata tour --list
    verdict "tour --list" "$(wrong 0 '^paging' -)"
    exercises=$(sed 's/[[:space:]].*//' "$out")
    for name in paging fork-cow shared-memory dma shared-library reclaim demand-paging leak remanence \
        snapshot-consistency; do
        echo "$exercises" | grep -qx "$name" ||
            verdict "exercise $name" "tour --list does not name it"
    done
    for name in $exercises; do
        strata tour "$name" --json "$work/tour.json"
        why=$(wrong 0 "^ok +$name .*control fails, as it should" '')
        for field in '"schema": *"strata.tour"' "\"name\": *\"$name\"" \
            '"control_failed_as_it_should": *true'; do
            [ -n "$why" ] || grep -q "$field" "$work/tour.json" || why="its JSON lacks $field"
        done
        # It says whether copy-on-write paid, from its own figures.
        if [ -z "$why" ] && [ "$name" = fork-cow ]; then
            ratio=$(sed -n 's/.*"cascade_to_bulk_ratio": *\([0-9.]*\).*/\1/p' "$work/tour.json")
            words=$(awk -v r="${ratio:-x}" 'BEGIN {
                print(r + 0 <= 0 ? "none" : r + 0 > 1 ? "COW backfired" : "COW helped even so") }')
            matches "$out" " COW faults take .*: $words" ||
                why="the row does not say what the ratio ${ratio:-(none)} means"
        fi
        verdict "tour $name" "$why"
        # The negative control, by hand: status 1, and what was expected and observed.
        expect "tour --break $name" 1 'failed: .*expected .*, observed' '' tour --break "$name"
    done
    limit=60
}

while [ $# -gt 0 ]; do
    case $1 in
    --verbose) verbose=1 ;;
    --control) control=1 ;;
    -*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) break ;;
    esac
    shift
done

[ -z "$control" ] || control tests/guests/run.sh "$@"
[ -x "$STRATA" ] || { echo "Bail out! $STRATA is not built"; exit 2; }
for group in ${@:-$ALL}; do
    echo "# $group"
    "group_$group"
done
plan
