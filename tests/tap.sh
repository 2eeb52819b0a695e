# For scripts that try strata: a folder, results in TAP, and waiting for what runs beside.
# What whoever reads this in may set, before or afterwards:
#   subject  what every check's name begins with
#   shown    the command that shows what was printed, where a check fails; keep the name for it
#   out err  the files with that: standard output and standard error
#   pid      a process that must not outlive the script
#   limit    for await, in seconds; SLOW is a factor for it
subject= shown='head -n 15' pid= limit=60
SLOW=${STRATA_SLOW:-1}
n=0 failed=0

# The same on every machine, whatever language its user reads.
LC_ALL=C
export LC_ALL

work=$(mktemp -d) || exit 2
# A socket in it has a path of 107 bytes at most.
[ ${#work} -le 60 ] || { rmdir "$work"; work=$(mktemp -d /tmp/strata.XXXXXX) || exit 2; }
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
out=$work/out err=$work/err

verdict() { # NAME WHY-NOT, which is empty if all is well
    n=$((n + 1))
    if [ -z "$2" ]; then
        echo "ok $n - ${subject:+$subject: }$1"
        return
    fi
    failed=$((failed + 1))
    echo "not ok $n - ${subject:+$subject: }$1"
    echo "$2" | sed 's/^/# /'
    # A guest may have printed anything.
    for stream in out err; do
        eval "file=\$$stream"
        [ ! -s "$file" ] || $shown "$file" | tr -cd '\11\12\40-\176' | cut -c 1-400 |
            sed "s/^/#   std$stream: /"
    done
}

skip() { # NAME WHY
    n=$((n + 1))
    echo "ok $n - ${subject:+$subject: }$1 # SKIP $2"
}

# The plan; the script's status is that of this, its last command.
plan() {
    echo "1..$n"
    [ $failed -eq 0 ]
}

# Every check of the script must fail for a strata that does nothing and says so; ends it.
control() { # SCRIPT ARGUMENT…
    for answer in true false; do
        printf '#!/bin/sh\n%s\n' $answer >"$work/$answer"
        chmod +x "$work/$answer"
        said=$(STRATA=$work/$answer sh "$@" 2>/dev/null)
        passed=$(echo "$said" | grep '^ok' | grep -v '# SKIP')
        why=
        { echo "$said" | grep -q '^not ok' && echo "$said" | grep -q '^1\.\.'; } || why="not all checks ran"
        [ -z "$passed" ] || why="these pass: $passed"
        verdict "control: no check passes for $answer in place of strata" "$why"
    done
    plan
    exit
}

# --- waiting for the process $pid

# Whether it is there, and does not only wait to be waited for.
running() {
    case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) in
    '' | Z) return 1 ;;
    esac
}

# A line for it, or some, by descriptor 8. Where it has ended, this shell shall not end with it.
type_in() { # TEXT
    (printf "$1\n" >&8) 2>/dev/null
}

# Until the command that follows succeeds, at most so many tenths of a second.
in_time() { # TENTHS COMMAND…
    tenths=$(($1 * SLOW))
    shift
    until "$@"; do
        [ $tenths -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

# Until a pattern is in a file, at most `limit` seconds; not longer than it runs.
await() { # FILE PATTERN
    in_time $((limit * 10)) printed_or_ended "$1" "$2"
    grep -Eqa -e "$2" "$1" 2>/dev/null
}
printed_or_ended() { # FILE PATTERN
    grep -Eqa -e "$2" "$1" 2>/dev/null || ! running
}
ended_by_now() { ! running; }
gone_within() { # TENTHS
    in_time "$1" ended_by_now
}
