#!/bin/sh
# What needs a host with a CPU for each vCPU and KVM with nested paging: there a vCPU keeps
# translations in its TLB while another one changes tables. Prints TAP.
#
#   tests/guests/cpus.sh STALE    STALE: a strata whose guest does not make other CPUs forget
#                                 (make stale-tlb), the control
cd "$(dirname "$0")/../.." || exit 2

STRATA=${STRATA:-build/strata}
. tests/tap.sh
subject=cpus
stale=${1-}
for program in "$STRATA" "$stale"; do
    [ -x "$program" ] || { echo "Bail out! $program is not built"; exit 2; }
done

expect_row() { # NAME STRATA STATUS PATTERN EXERCISE
    "$2" tour "$5" >"$out" 2>"$err"
    status=$?
    why=
    [ $status -eq "$3" ] || why="status $status, not $3"
    grep -Eq -e "$4" "$out" || why="$why; nothing matches /$4/"
    verdict "$1" "${why#; }"
}

expect_row "there are CPUs enough" "$STRATA" 0 'KVM backend (npt|ept) .*, ([2-9]|1[0-9]) host CPUs' paging
expect_row "page frames are swapped under a reader on another CPU" "$STRATA" 0 \
    '^ok +snapshot-consistency' snapshot-consistency
expect_row "messages from one CPU to the other" "$STRATA" 0 '^ok +shared-memory' shared-memory
expect_row "a reader that keeps old translations is noticed" "$stale" 1 \
    '^FAILED +snapshot-consistency' snapshot-consistency
plan
