#!/bin/sh
# run.sh: every fuzzer of build/fuzz for a bounded number of runs over its corpus. They share
# FUZZ_SECONDS: what quick ones leave is there for those that follow.
# Prints TAP. The corpus in the tree is only read; what a fuzzer finds goes to a
# directory of its own, which is kept (and named) when one fails.
cd "$(dirname "$0")/../.." || exit 1
runs=${FUZZ_RUNS:-8000}
end=$(($(date +%s) + ${FUZZ_SECONDS:-180}))
left=$(find build/fuzz -maxdepth 1 -name '[!.]*' -perm -u+x 2>/dev/null | wc -l)
work=$(mktemp -d) || exit 1
n=0
failed=0

for fuzzer in build/fuzz/*; do
    [ -x "$fuzzer" ] || continue
    name=$(basename "$fuzzer")
    n=$((n + 1))
    seconds=$(((end - $(date +%s)) / left))
    [ $seconds -ge 3 ] || seconds=3
    left=$((left - 1))
    mkdir -p "$work/$name/corpus"
    # A fixed seed: the same runs each time, so that red means the code has changed.
    if timeout $((seconds + 180)) "$fuzzer" -runs="$runs" -seed=1 -max_total_time=$seconds -max_len=32768 \
        -timeout=60 -artifact_prefix="$work/$name/" \
        "$work/$name/corpus" "tests/fuzz/corpus/$name" >"$work/$name/log" 2>&1; then
        echo "ok $n - fuzz: $name, $(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' "$work/$name/log")"
        rm -rf "${work:?}/$name"
    else
        echo "not ok $n - fuzz: $name (see $work/$name)"
        tail -n 20 "$work/$name/log" | sed 's/^/# /'
        failed=1
    fi
done
[ $n -gt 0 ] || echo "not ok $((n += 1)) - fuzz: nothing in build/fuzz; make fuzz builds it"
echo "1..$n"
rmdir "$work" 2>/dev/null
exit $failed
