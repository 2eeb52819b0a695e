#!/bin/sh
# Access against revocation under ThreadSanitizer (`make tsan` builds it): must be clean;
# and where revoking does not wait for what is under way, or leaves cached translations
# alone, that must be noticed.
cd "$(dirname "$0")/../.." || exit 2
log=build/tsan/log
n=0 failed=0

# ThreadSanitizer knows some addresses only; a kernel that places libraries at random in more
# of them (vm.mmap_rnd_bits above 28) is asked not to, where that is allowed.
fixed=
! setarch -R true 2>/dev/null || fixed='setarch -R'
# shellcheck disable=SC2086
if $fixed build/tsan/console 1 2>&1 | grep -q 'unexpected memory mapping'; then
    echo "1..0 # SKIP not available here, because ThreadSanitizer does not know the addresses of this kernel; sysctl vm.mmap_rnd_bits=28"
    exit
fi

for program in revoke net vsock console io_thread; do
    # shellcheck disable=SC2086
    TSAN_OPTIONS='exitcode=66' $fixed build/tsan/$program "$@" >$log 2>$log.err
    status=$?
    grep '^\(not \)\{0,1\}ok' $log | sed "s/ok [0-9]* -/ok -/" |
        awk -v n=$n '{ sub(/ok -/, "ok " ++n " -"); print }'
    n=$((n + $(grep -c '^\(not \)\{0,1\}ok' $log) + 1))
    if [ $status -eq 0 ]; then
        echo "ok $n - tsan: $program: no data race"
    else
        echo "not ok $n - tsan: $program: status $status"
        grep -v '^$' $log.err | head -n 60 | sed 's/^/# /'
        failed=1
    fi
done

# Seeded bugs of the IOMMU; and somebody who looks without a lock, or at a world that goes on.
for control in no-drain/revoke stale-iotlb/revoke keep-after-detach/revoke stale-iotlb/net \
    console:careless io_thread:careless; do
    n=$((n + 1))
    case $control in
    *:careless) set -- 4000 careless ;;
    esac
    # shellcheck disable=SC2086
    TSAN_OPTIONS='exitcode=66 halt_on_error=1' timeout 240 $fixed build/tsan/${control%:*} "$@" >$log 2>$log.err
    status=$?
    what=$(sed -n 's/^SUMMARY: //p' $log.err | head -n 1)
    case $status:$what in
    1:* | 66:?*) echo "ok $n - tsan control: $control is noticed # ${what:-bytes changed}" ;;
    *) echo "not ok $n - tsan control: $control is not noticed (status $status)"; failed=1 ;;
    esac
done
echo "1..$n"
exit $failed
