#!/bin/sh
# Seeded bugs (devices/iommu/checks.h): builds the unit tests with each and sees
# that they notice. TAP, a line for each bug. Arguments: names; without any, all.
cd "$(dirname "$0")/../.." || exit 2

suites="iommu iommu_model dma"
all=$(make -s fault-list)
n=0 failed=0

report() { # ok|'not ok' TEXT
    n=$((n + 1))
    echo "$1 $n - fault: $2"
    [ "$1" = ok ] || failed=1
}

if make -s FAULT_INJECT=no-such-bug unit >build/fault-unknown.log 2>&1; then
    report 'not ok' "an unknown name is built"
else
    report ok "an unknown name does not build"
fi
rm -rf build/fault/no-such-bug

# shellcheck disable=SC2086
if CK_VERBOSITY=silent build/unit $suites >build/fault-none.log 2>&1; then
    report ok "without one, all passes"
else
    report 'not ok' "without one, something fails"
fi

for name in ${*:-$all}; do
    if ! make -s -j2 FAULT_INJECT="$name" unit >build/fault-build.log 2>&1; then
        report 'not ok' "$name: does not build"
        sed 's/^/# /' build/fault-build.log | head -n 20
        continue
    fi
    # Stops at the first suite that notices; a test that hangs has its own limit.
    caught=
    for suite in $suites; do
        caught=$(CK_VERBOSITY=silent build/fault/"$name"/unit "$suite" 2>/dev/null |
            sed -n 's/^not ok [0-9]* - //p' | head -n 1)
        [ -z "$caught" ] || break
    done
    if [ -n "$caught" ]; then
        report ok "$name: caught"
        echo "# $caught"
    else
        report 'not ok' "$name: not noticed"
    fi
done
echo "1..$n"
exit $failed
