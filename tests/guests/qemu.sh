#!/bin/sh
# qemu.sh: the bundled guest as a plain PVH kernel under QEMU's own CPU emulation,
# which hands over no device tree. Prints TAP.
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
out=$work/out
mkfifo "$work/in"

timeout -s KILL 60 qemu-system-x86_64 -machine q35,accel=tcg -m 128 -nodefaults -display none \
    -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 -serial stdio \
    -kernel "${1:-build/guest/kernel.elf}" <"$work/in" >"$out" 2>&1 &
pid=$!
exec 8>"$work/in"
# What is typed before the prompt may be lost: QEMU does not hold it back.
for _ in $(seq 100); do
    ! grep -q '^> ' "$out" || break
    sleep 0.2
done
# halt ends it through isa-debug-exit, whose status is (5 << 1) | 1.
printf 'stress 200 1\nhalt 5\n' >&8
wait $pid
status=$?
exec 8>&-

verdict() { # N NAME OK?
    if [ "$3" -eq 0 ]; then echo "ok $1 - $2"; else
        echo "not ok $1 - $2"
        sed 's/^/#   /' "$out"
        failed=1
    fi
}
failed=0
grep -q '^strata guest: 1 CPU, 127 MiB' "$out"
verdict 1 "under QEMU the guest comes to its banner" $?
grep -q 'as the model says' "$out"
verdict 2 "under QEMU its memory is as the model says" $?
[ $status -eq 11 ]
verdict 3 "under QEMU halt ends it with the status asked for" $?
echo "1..3"
exit $failed
