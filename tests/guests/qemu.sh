#!/bin/sh
# qemu.sh: the bundled guest as a plain PVH kernel under QEMU's own CPU emulation,
# which hands over no device tree. Prints TAP.
cd "$(dirname "$0")/../.." || exit 2
. tests/tap.sh
subject="under QEMU" limit=100
mkfifo "$work/in"

qemu-system-x86_64 -machine q35,accel=tcg -m 128 -nodefaults -display none \
    -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 -serial stdio \
    -kernel "${1:-build/guest/kernel.elf}" <"$work/in" >"$out" 2>"$err" &
pid=$!
exec 8>"$work/in"
# What is typed before the prompt may be lost: QEMU does not hold it back.
await "$out" '^> '
# halt ends it through isa-debug-exit, whose status is (5 << 1) | 1.
type_in 'stress 200 1\nhalt 5'
gone_within $((limit * 10)) || kill -KILL $pid
wait $pid
status=$?
pid=
exec 8>&-

why=
grep -q '^strata guest: 1 CPU, 127 MiB' "$out" || why="no banner"
verdict "the guest comes to its banner" "$why"
why=
grep -q 'as the model says' "$out" || why="stress does not say so"
verdict "its memory is as the model says" "$why"
why=
[ $status -eq 11 ] || why="status $status, should be 11"
verdict "halt ends it with the status asked for" "$why"
plan
