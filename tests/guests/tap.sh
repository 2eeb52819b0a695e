# For scripts that try one command of strata: results in TAP. Whoever reads this in has set
# STRATA, $subject (the command), $work (a folder), $out and $err (what was printed last).
n=0 failed=0

verdict() { # NAME WHY-NOT, which is empty if all is well
    n=$((n + 1))
    if [ -z "$2" ]; then
        echo "ok $n - $subject: $1"
        return
    fi
    failed=$((failed + 1))
    echo "not ok $n - $subject: $1"
    echo "$2" | sed 's/^/# /'
    head -n 40 "$out" "$err" 2>/dev/null | tr -cd '\11\12\40-\176' | cut -c 1-300 | sed 's/^/#   /'
}

# Every check of the script must fail for a strata that does nothing and says so; ends it.
control() { # SCRIPT
    for answer in true false; do
        printf '#!/bin/sh\n%s\n' $answer >"$work/$answer"
        chmod +x "$work/$answer"
        said=$(STRATA=$work/$answer sh "$1" 2>/dev/null)
        passed=$(echo "$said" | grep '^ok' | grep -v '# SKIP')
        why=
        [ -z "$passed" ] || why="these pass: $passed"
        echo "$said" | grep -q '^not ok' || why="no check fails"
        verdict "control: no check passes for $answer in place of strata" "$why"
    done
    echo "1..$n"
    exit $((failed > 0))
}
