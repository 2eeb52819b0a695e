#!/bin/sh
# strata inspect on running machines: every command and every error that there is. The
# same on each of the three hosts; needs build/ and busybox sh. Prints TAP.
#
#   tests/guests/inspect.sh [--control]    --control: every check must fail for a strata
#                                          that does nothing and says so
#
# STRATA_SLOW multiplies all time limits.
cd "$(dirname "$0")/../.." || exit 2

STRATA=${STRATA:-build/strata}
. tests/tap.sh
subject=inspect shown='head -n 40'
sock=$work/sock console=$work/console

[ "${1-}" != --control ] || control tests/guests/inspect.sh
[ -x "$STRATA" ] || { echo "Bail out! $STRATA is not built"; exit 2; }

# Runs strata inspect SOCK with the arguments; sets status.
look() {
    timeout -s KILL $((limit * SLOW)) "$STRATA" inspect "$sock" "$@" >"$out" 2>"$err" </dev/null
    status=$?
}

# A look with this status, and this on standard output; or, with !, on standard error.
expect() { # NAME STATUS PATTERN ARGUMENT…
    name=$1 want=$2 pattern=$3
    shift 3
    look "$@"
    why= file=$out
    case $pattern in
    !*) file=$err pattern=${pattern#!} ;;
    esac
    [ "$status" -eq "$want" ] || why="status $status, not $want"
    [ -n "$why" ] || grep -Eq -e "$pattern" "$file" || why="nothing matches /$pattern/"
    [ -n "$why" ] || [ "$file" = "$out" ] || [ "$(wc -l <"$err")" -eq 1 ] || why="not one line on stderr"
    verdict "$name" "$why"
}

and() { # NAME PATTERN: what the last look printed as well
    why=
    grep -Eq -e "$2" "$out" || why="nothing matches /$2/"
    verdict "$1" "$why"
}

# A machine in the background; its console in and out of files.
start() { # ARGUMENT…
    rm -f "$work/in" "$console"
    mkfifo "$work/in"
    "$STRATA" run --control "$sock" "$@" <"$work/in" >"$console" 2>"$work/stderr" &
    pid=$!
    exec 8>"$work/in"
}

# Looks again until there is this to be seen: a guest takes its time.
look_for() { # PATTERN ARGUMENT…
    in_time $((limit * 10)) seen "$@"
}
seen() { # PATTERN ARGUMENT…
    pattern=$1
    shift
    look "$@"
    grep -Eq -e "$pattern" "$out" || ! running
}

finish() { # SIGNAL: ends the machine, sets ended
    [ -z "$1" ] || kill "-$1" "$pid"
    exec 8>&-
    wait "$pid" 2>/dev/null
    ended=$?
    pid=
}

# --- the bundled guest

start --iommu strict --rng --balloon 0
why=
await "$console" '[>] *$' || why="no prompt"
verdict "a machine with a control socket comes to its prompt" "$why"
why=
case $(ls -l "$sock" 2>/dev/null) in
srw-------*) ;;
*) why="not a socket of mode 0600" ;;
esac
verdict "the socket is there, for its owner only" "$why"

type_in 'run shared-memory 2000000000 &'
await "$console" 'started'
look_for 'rw, pid [0-9]+ shared-memory at' shared

expect "maps: the init process" 0 '^pid 1 init, root 0x[0-9a-f]+' maps
and "maps: its text, executable and not writable" '^  0000000000400000-[0-9a-f]+ .* r-xu  4K '
and "maps: memory that two processes share" 'rw-u  4K shared'
and "maps: the kernel's half, once" 'upper half as pid 1 init'
and "maps: the direct map in large pages" '^  ffffff80[0-9a-f]+-[0-9a-f]+ +[0-9.]+[MG] rw-k  2M kernel'
and "maps: how long the guest stood still" '^guest paused for [0-9.]+ ms$'
why=
grep -q 'kernel pages writable\|rwx' "$out" && why="something is writable and executable"
[ -s "$out" ] || why="nothing was printed"
verdict "maps: nothing writable and executable" "$why"

expect "walk: a symbol" 0 '^GVA +0x[0-9a-f]+ \(kernel_info\)' walk kernel_info
and "walk: the first of four levels" '^  PML4 \[511\] at gpa 0x[0-9a-f]+ +='
and "walk: the last, with its bits" '^  PT   \[ *[0-9]+\] at gpa .* P .*NX'
and "walk: GPA and rights" '^GPA    0x[0-9a-f]+, guest page of 4K, rw-k'
and "walk: the memory slot" '^slot   0: gpa 0x0, 256M, at hva 0x'
and "walk: the host's address" '^HVA    0x'
and "walk: the host's frame, or why not" '^PFN    (0x|not available here, because)'
and "walk: the host's page size, or why not" 'host page (of (4K|2M)|size not available here)'
expect "walk: a number, in a process" 0 'r-xu' walk 0x400000 --pid 1
expect "walk: a register" 0 '^GVA    0x[0-9a-f]+' walk rip
expect "walk: symbol and offset" 0 '\(kernel_main\+0x4\)' walk kernel_main+4
expect "walk: what is not mapped is told, with status 1" 1 '^not mapped: not present' walk 0x10000 --pid 1
expect "walk: no canonical address" 1 '^not mapped: not canonical' walk 0x800000000000

expect "pages: free memory" 0 ' pages .* free$' pages
and "pages: what the host has of it" '^guest RAM 256M, of which the host has [0-9.]+[KM] resident'
and "pages: shared by two" ' shared by 2,'
and "pages: pinned for DMA" '^pinned for DMA: [0-9]+ pages under [0-9]+ mappings'
and "pages: guest tables" '^table memory: guest [0-9]+K'
and "pages: second-stage tables, or why not" 'second stage \((software|npt|ept|shadow)\): (at least|not available here)'
# A kernel stopped in the middle of a change may disagree for that moment.
look_for 'frame table agrees with the walks' pages
and "pages: the guest's frame table agrees with the walks" 'agrees with the walks of its [0-9]+ address'

expect "shared: whose" 0 'pid [0-9]+ shared-memory at 0x[0-9a-f]+ rw, pid [0-9]+ shared-memory at' shared
expect "find: hex, with the addresses that map it" 0 '^gpa 0x[0-9a-f]+: kernel 0xffff' find 0x7f454c460201
program=$(sed -n 's/^gpa \(0x[0-9a-f]*\):.*/\1/p' "$out" | head -n 1)
expect "find: text" 0 '^[0-9]+ found in' find "bundled guest"
expect "find: nothing, with status 1" 1 '^0 found in' find 0x5ca1ab1e5ca1ab1e5ca1ab1e00
expect "disasm: from a symbol on" 0 ' kernel_main$' disasm kernel_main 3
why=
[ "$(grep -c '^ffffffff' "$out")" -eq 3 ] || why="not three instructions"
verdict "disasm: as many as were asked for" "$why"
expect "regs: both vCPUs" 0 '^vCPU 1: 64-bit, CPL [03]' regs
expect "dump: of guest memory" 0 "^20480 bytes from gpa ${program:-0x0} on" dump "${program:-0x0}" 20K "$work/dump"
why=
[ "$(head -c 4 "$work/dump" | tail -c 3)" = ELF ] || why="no program at its start"
[ "$(wc -c <"$work/dump")" -eq 20480 ] || why="it is of another length"
verdict "dump: what is in the file" "$why"
expect "dump: of more than one piece" 0 'in 2 pieces' dump 0 17M "$work/dump"

expect "dump: no room for it" 1 '!/dev/full: No space left on device$' dump 0 4K /dev/full
# The second piece is over the limit, or the third: shells count it in 512 or in 1024 bytes.
rm -f "$work/dump"
(trap '' XFSZ; ulimit -f 34816; exec timeout -s KILL $((20 * SLOW)) "$STRATA" inspect "$sock" dump 0 64M "$work/dump") >"$out" 2>"$err"
status=$?
why=
[ $status -eq 1 ] || why="status $status"
grep -Eq 'File too large, after (16777216|33554432) of 67108864 bytes' "$err" || why="it does not say how far it came"
[ ! -e "$work/dump" ] || why="half a file is there"
verdict "dump: none rather than half of one" "$why"

look_for '^the guest says now' balloon
and "balloon: how full it is" '^balloon: 0K wanted, 0K in it; guest RAM 256M, of which the host has [0-9.]+[KM] resident'
and "balloon: what the guest says, just asked" '^the guest says now:'
and "balloon: how much of its memory is free" '^ +[0-9.]+M  free memory'
look balloon 16M
look_for ' wanted, 16M in it' balloon
and "balloon: the size that it was given" '^balloon: 16M wanted, 16M in it'
and "balloon: and the host has its memory" '^given back so far: 16M into the balloon'
look balloon 0
look_for ' wanted, 0K in it' balloon
and "balloon: empty again" '^balloon: 0K wanted, 0K in it'
look balloon 8M --json "$work/balloon.json"
why=
[ "$status" -eq 0 ] && grep -q '"target_pages": 2048,' "$work/balloon.json" || why="status $status, or no such target"
verdict "balloon: as JSON" "$why"
expect "balloon: as large as memory" 1 '!give less than 256M' balloon 256M
expect "balloon: no size" 2 '!balloon much: not a size' balloon much
expect "balloon: no size for --watch" 2 '!goes without a SIZE' balloon 1M --watch

expect "report: totals and addresses through all layers" 0 '^guest RAM 256M' report
and "report: code of a process" '^(the instruction that a process runs right now|code of a process):$'
and "report: a shared page" '^a page that several mappings share:$'
and "report: a page of copy-on-write" 'P .*NX COW$'
and "report: the kernel" '^GVA +0x[0-9a-f]+ \(kernel_info\)'
expect "report: an address that was asked for" 0 '^GVA +0x[0-9a-f]+ \(kernel_main\+0x4\)' report kernel_main+4
expect "report: a symbol that there is not" 1 '!no_such: not a number, a register' report no_such
look --html "$work/page.html" --json "$work/report.json"
why=
[ "$status" -eq 0 ] || why="status $status"
[ -n "$why" ] || grep -q '</html>' "$work/page.html" || why="not a whole page"
[ -n "$why" ] || grep -q '"map": {' "$work/report.json" || why="no map in the JSON"
[ -n "$why" ] || ! grep -q 'https\{0,1\}:' "$work/page.html" || why="it points elsewhere"
verdict "--html: a whole page by itself, without a command" "$why"
expect "--html -: the page and no text" 0 '^<!DOCTYPE html>' report --html -
expect "--html: only of a report" 2 '!--html goes with report, not with maps' maps --html "$work/page"
expect "--html: what cannot be written" 2 '!--html /nowhere/x: .*give a file' --html /nowhere/x
expect "--html: no room for it" 1 '!--html /dev/full: No space left' --html /dev/full
expect "--html and --json to one place" 2 '!cannot both go to -' --html - --json -
expect "--json and a dump to one place, by two names" 2 '!--json and the dump cannot both go to' dump 0 4K "$work/f" --json "$work/./f"
expect "--html and --watch" 2 '!goes without --html' report --watch --html "$work/page"
expect "--json: to a file" 0 '' maps --json "$work/json"
why=
grep -q '"schema": *"strata.inspect"' "$work/json" && grep -q '"upper_as"' "$work/json" ||
    why="no result in it"
verdict "--json: what is in it" "$why"
expect "--json -: and no text" 0 '^{' walk rip --json -

expect "no such symbol" 1 '!nosuch: not a number, a register or a symbol' walk nosuch
expect "an address that is no text" 2 '!not a number, a register or a symbol' walk "$(printf 'r\377')"
expect "no such vCPU" 1 '!the VM has 2' walk rip --vcpu 7
expect "a vCPU where it is not asked for" 2 '!--vcpu goes with walk, disasm and report VA, not with regs' regs --vcpu 1
expect "a process where it is not asked for" 2 '!--pid goes with .*, not with maps' maps --pid 1
expect "no process has the number 0" 2 '!--pid 0: processes have numbers from 1' walk 0 --pid 0
expect "no such process" 1 '!no such process' walk 0 --pid 4000
expect "dump beyond memory" 1 '!not all of .* is RAM' dump 0xfffffff 4K "$work/none"
expect "code that is not mapped" 1 '!is not mapped' disasm 0x10000 --pid 1
expect "a file that cannot be written" 1 '!No such file' dump 0 1 "$work/none/none"
expect "no such command" 2 '!unknown command' frobnicate
expect "an argument too few" 2 '!needs more' walk
expect "an argument too many" 2 '!unexpected' maps now
expect "a pattern that is none" 2 '!even number of hex digits' find 0x123
expect "a length that is none" 2 '!not a length' dump 0 many "$work/none"

# Several at once, one of them watching.
timeout -s KILL $((6 * limit * SLOW)) "$STRATA" inspect "$sock" pages --watch >"$work/watch" 2>"$work/watch.err" &
watcher=$! finders=
for i in 1 2 3 4 5; do
    "$STRATA" inspect "$sock" find 0x7f454c460201 >"$work/find.$i" 2>&1 &
    finders="$finders $!"
done
why=
for finder in $finders; do
    wait "$finder" || why="one of five finds failed"
done
[ "$(cat "$work"/find.* | grep -c '^gpa 0x')" -ge 5 ] || why="one of five found nothing"
verdict "six clients at once" "$why"

# In a terminal of 20 columns and 4 rows: three lines, each where the one before it began.
build/tests/with-terminal size:20x4 expect:"$(printf '\033[J')" expect:"$(printf '\033[J')" signal:9 status:137 \
    -- "$STRATA" inspect "$sock" maps --watch >"$work/tty" 2>"$err"
status=$?
why=
[ $status -eq 0 ] || why="$(cat "$err")"
[ -n "$why" ] || tr '\033' '\n' <"$work/tty" | sed -n 's/^\[[HJK]//p' | tr -d '\r' >"$work/lines"
[ -n "$why" ] || grep -q '^  0000000000400000-0$' "$work/lines" || why="a line is not cut after 20 columns"
[ -n "$why" ] || ! grep -q '.\{21\}' "$work/lines" || why="a line is longer than 20 columns"
[ -n "$why" ] || [ "$(sed '/^$/q' "$work/lines" | grep -c .)" -le 3 ] || why="more lines than rows"
verdict "--watch: no wider and no longer than the terminal" "$why"

# A second machine does not take the socket away.
"$STRATA" run --control "$sock" --exec 'run hello' >"$out" 2>"$err" </dev/null
status=$?
why=
[ $status -eq 2 ] || why="status $status"
grep -q 'another process listens' "$err" || why="it does not say so"
verdict "a socket that somebody listens on stays" "$why"

# The guest is none the worse for it.
type_in 'run hello'
why=
await "$console" 'hello' || why="no answer"
verdict "the guest goes on" "$why"
await "$work/watch" '^guest RAM'
why=
[ -S "$sock" ] || why="the socket is gone"
type_in halt
finish ''
[ $ended -eq 0 ] || why="status $ended"
[ ! -e "$sock" ] || why="the socket is still there"
verdict "it ends as ever, and removes its socket" "$why"
wait "$watcher"
status=$?
why=
[ $status -eq 0 ] || why="status $status"
[ "$(grep -c '^guest RAM' "$work/watch")" -ge 1 ] || why="it showed nothing"
grep -q 'the VM has ended' "$work/watch.err" || why="it does not say why it stopped"
verdict "--watch shows until the machine ends" "$why"
expect "a socket that is not there" 2 '!no such socket' maps
: >"$sock"
expect "a file that is no socket" 2 '!not a socket' maps
"$STRATA" run --control "$sock" --exec 'run hello' >"$out" 2>"$err" </dev/null
status=$?
why=
[ $status -eq 2 ] && grep -q 'is no socket' "$err" && [ -f "$sock" ] || why="status $status"
verdict "run does not replace a file that is no socket" "$why"
rm -f "$sock"

# --- a kernel that strata knows nothing of: whatever CR3 the vCPUs have

start --kernel build/guest/kernel.elf
await "$console" '[>] *$'
type_in 'run spin 600000 &'
await "$console" 'started'
expect "another kernel: what its vCPUs have loaded" 0 '^0x[0-9a-f]+, root 0x[0-9a-f]+.* on vCPU' maps
and "another kernel: and that this is all that is known" '^not the bundled guest'
expect "another kernel: no symbols" 1 '!symbols are known of the bundled guest only' walk kernel_info
expect "another kernel: its pages" 0 ' page tables$' pages
expect "another kernel: no balloon" 1 '!no balloon; give --balloon' balloon
expect "another kernel: a walk" 0 '^GPA ' walk rip
# Killed: the socket stays behind, and the next one replaces it.
finish KILL
expect "a machine that is gone" 1 '!the VM is gone' maps

# --- no paging at all

start --kernel build/tests/idle.elf --cpus 1
look_for '^vCPU 0' regs
expect "a stale socket is replaced; a guest without paging" 0 '^1 vCPU has paging off' maps
expect "no paging: a find says so, and does not say that it is not mapped" 0 ': mapped nowhere that is known$' find idle
and "no paging: that is why" '^1 vCPU has paging off'
expect "no paging: addresses are guest-physical" 0 '^GPA .* paging is off' walk rip
finish TERM
why=
[ $ended -eq 143 ] && [ ! -e "$sock" ] || why="status $ended, or the socket is still there"
verdict "a signal ends it and removes the socket" "$why"

plan
