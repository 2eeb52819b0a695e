#!/bin/sh
# Real Linux kernels under strata run. Needs a KVM that runs kernel code unmodified,
# build/, the images of scripts/guest-linux and busybox sh. Prints TAP.
#
#   tests/guests/linux.sh [--verbose] DIR [GROUP…]    DIR: what scripts/guest-linux dir prints
#                                                     groups: see ALL below, and hostile
#   tests/guests/linux.sh DIR quick                   one boot, for slow hosts
#   tests/guests/linux.sh DIR soak [N]                boots N times, 100 if not said
#   tests/guests/linux.sh --control DIR [GROUP…]      every check must fail for a strata that
#                                                     does nothing and says so
#
# STRATA_SLOW multiplies all time limits (emulated hosts set it).
cd "$(dirname "$0")/../.." || exit 2

ALL="boot devices ports memory ends faults tap"
STRATA=${STRATA:-build/strata}
verbose= control=
. tests/tap.sh
subject=linux shown='tail -n 15'

# --- machines

image_of() { # KERNEL FORM
    case $1-$2 in
    cloud-bzimage) echo "$images/cloud-vmlinuz" ;;
    small-bzimage) echo "$images/small-bzImage" ;;
    *) echo "$images/$1-vmlinux" ;;
    esac
}

# An initramfs whose /test is what stands on standard input; programs in $work/root
# go along.
with_test() {
    mkdir -p "$work/root"
    cat >"$work/root/test"
    (cd "$work/root" && find . | cpio -o -H newc) >"$work/extra" 2>/dev/null
    cat "$images/initrd" "$work/extra" >"$work/initrd"
}

append="console=ttyS0 quiet loglevel=1 panic=-1"
typed=/dev/null # what is on its console's input from the beginning
limit=60
# Runs a machine to its end, or the limit; sets status (124: still running then).
linux() { # KERNEL FORM ARGUMENT…
    image=$(image_of "$1" "$2")
    shift 2
    timeout -s KILL $((limit * SLOW)) "$STRATA" run --kernel "$image" --initrd "$work/initrd" \
        --append "$append" "$@" >"$work/raw" 2>"$err" <"$typed"
    status=$?
    [ $status -ne 137 ] && [ $status -ne 9 ] || status=124
    tr -d '\r' <"$work/raw" >"$out"
    [ -z "$verbose" ] || echo "# $(cut -d . -f 1 /proc/uptime) s: $image $* -> $status"
}

# The same in the background, its console's input held open on descriptor 8; sets pid.
start() { # KERNEL FORM ARGUMENT…
    image=$(image_of "$1" "$2")
    shift 2
    rm -f "$work/in" "$out" "$err"
    mkfifo "$work/in"
    "$STRATA" run --kernel "$image" --initrd "$work/initrd" --append "$append" "$@" \
        <"$work/in" >"$out" 2>"$err" &
    pid=$!
    exec 8>"$work/in"
}

finish() { # [SIGNAL]: ends it; sets status
    [ -z "${1-}" ] || kill "-$1" "$pid" 2>/dev/null
    gone_within $((limit * 10)) || kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    status=$?
    pid=
    exec 8>&-
}

# What the guest said of NAME, in a line NAME=VALUE.
said() { # NAME
    sed -n "s/^$1=//p" "$out" | tr -d '\r'
}
is() { # NAME VALUE: complains if the guest said something else, unless there was a complaint
    [ -n "$why" ] || [ "$(said "$1")" = "$2" ] || why="$1 is '$(said "$1")', should be '$2'"
}
ended() { # STATUS
    why=
    [ "$status" -eq "$1" ] || why="exit status $status, should be $1"
}

# --- groups

# Both kernels, both ways to boot, one CPU and four.
group_boot() {
    matrix="cloud:vmlinux:1 cloud:vmlinux:4 cloud:bzimage:1 cloud:bzimage:4
        small:vmlinux:1 small:vmlinux:4 small:bzimage:1 small:bzimage:4"
    with_test <<'TEST'
echo "release=$(uname -r)"
echo "cpus=$(nproc)"
echo "clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "command=$(cat /proc/cmdline)"
# Interrupts of the serial port and of timers on each CPU.
sleep 0.1
awk '/Local timer/ { n = 0; for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+$/ && $i > 0) n++; print "timers=" n }' /proc/interrupts
echo "done=yes"
TEST
    for case in $matrix; do
        IFS=: read -r kernel form cpus <<IN
$case
IN
        linux "$kernel" "$form" --cpus "$cpus" --memory 256M
        ended 0
        is done yes
        is cpus "$cpus"
        is timers "$cpus"
        is clock kvm-clock
        case $kernel-$(said release) in
        cloud-6.1.*-cloud-amd64 | small-6.1.*-strata) ;;
        *) [ -n "$why" ] || why="release '$(said release)'" ;;
        esac
        [ -n "$why" ] || said command | grep -q 'console=ttyS0 quiet' || why="command line $(said command)"
        verdict "$kernel kernel, $form, $cpus CPUs: boots, and powers off" "$why"
    done
}

# Makes a disk of random bytes, `disk`, and what it holds, `sum`.
make_disk() { # NAME MIB
    disk=$work/$1
    head -c $(($2 << 20)) /dev/urandom >"$disk"
    sum=$(sum_of "$disk")
}
sum_of() { # FILE
    sha256sum <"$1" | cut -c 1-64
}
sum_is() { # FILE SUM WHAT: complains, unless there was a complaint
    [ -n "$why" ] || [ "$(sum_of "$1")" = "$2" ] || why="$3"
}

# What a guest does with disks: reads all, writes half a disk past its cache, and has
# a file system on the other.
disk_test='
sum() { sha256sum | cut -c 1-64; }
echo "sectors=$(cat /sys/block/vda/size)"
echo "before=$(sum </dev/vda)"
head -c 4194304 /dev/urandom >/dev/shm/data
dd if=/dev/shm/data of=/dev/vda bs=64k seek=16 conv=fsync,notrunc 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
echo "after=$(sum </dev/vda)"
mke2fs /dev/vdb >/dev/null 2>&1 && mount -t ext4 /dev/vdb /mnt && cp /dev/shm/data /mnt/file
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 /dev/vdb /mnt && cmp /dev/shm/data /mnt/file && echo "file=same"
umount /mnt
echo "second=$(sum </dev/vdb)"
'
disks_are_right() { # complains unless the guest and the host saw the same
    ended 0
    is sectors 16384
    is before "$sum"
    is file same
    sum_is "$work/first" "$(said after)" "the guest reads something else than the disk's file holds"
    sum_is "$work/second" "$(said second)" "the second disk's file is not what the guest reads"
    [ -n "$why" ] || [ "$(said after)" != "$sum" ] || why="nothing was written"
}

groups_test='
for group in /sys/kernel/iommu_groups/*; do
    [ ! -e $group/type ] || echo "group=$(cat $group/type) $(ls $group/devices | wc -l)"
done
'

# The least of it, for a host where each boot takes minutes.
group_quick() {
    {
        echo "$disk_test"
        echo "$groups_test"
    } | with_test
    head -c 8388608 /dev/zero >"$work/second"
    make_disk first 8
    linux small vmlinux --cpus 1 --iommu strict --disk "$work/first" --disk "$work/second"
    disks_are_right
    is group "DMA 1
DMA 1"
    verdict "small kernel, --iommu strict: boots, and disks are read and written" "$why"
    with_test <<'TEST'
echo "release=$(uname -r)"
echo "cpus=$(nproc)"
TEST
    linux small bzimage --cpus 4
    ended 0
    is cpus 4
    case $(said release) in
    6.1.*-strata) ;;
    *) [ -n "$why" ] || why="release '$(said release)'" ;;
    esac
    verdict "small kernel, bzimage, 4 CPUs: boots, and powers off" "$why"
}

# Connections. The guest calls servers of the host first: a web server, and one that sends
# back what it gets, so that both ways are used at once. Then it listens itself, says so, and
# the host calls. LINUX_MIB: how much goes over TCP.
mib=${LINUX_MIB:-1}
tcp_bytes=$((mib << 20)) vsock_bytes=$((mib * 1000000 / 4))
talk_test='
cat >/lease <<"END"
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface && ip route add default via $router && echo "lease=$ip $router"
END
chmod 755 /lease
ip link set eth0 up
udhcpc -q -n -i eth0 -s /lease 2>/dev/null
echo "fetched=$(wget -q -O - http://10.0.2.2:47080/file | sum)"
wget -q -O - http://10.0.2.2:47082/file 2>/dev/null || echo "server=refused"
echo "tcp-out=$(/with-peer talk tcp:47081:10.0.2.2 $tcp_bytes)"
echo "vsock-out=$(/with-peer talk vsock:80 $vsock_bytes)"
/with-peer talk vsock:81 1 2>/dev/null || echo "socket=refused"
/with-peer echo tcp:7:0.0.0.0 >/dev/shm/tcp
/with-peer echo vsock:7 >/dev/shm/vsock
echo "listening=yes"
until [ -s /dev/shm/tcp ] && [ -s /dev/shm/vsock ]; do sleep 0.1; done
echo "tcp-in=$(cat /dev/shm/tcp)"
echo "vsock-in=$(cat /dev/shm/vsock)"
'
talk_options="--net user,hostfwd=tcp:47007:7 --vsock cid=5,path=$work/vsock"
peer=build/tests/with-peer

# The host's side: before there is a guest, while it runs, and afterwards.
serve() {
    mkdir -p "$work/www"
    head -c $tcp_bytes /dev/urandom >"$work/www/file"
    rm -f "$work"/vsock_80 "$work"/*-in "$work"/nobody
    busybox httpd -f -p 127.0.0.1:47080 -h "$work/www" & server=$!
    $peer echo tcp:47081:127.0.0.1 >"$work/tcp-out"
    $peer echo "unix:$work/vsock_80" >"$work/vsock-out"
}
call() {
    await "$out" 'listening=yes' || return
    $peer talk tcp:47007:127.0.0.1 $tcp_bytes >"$work/tcp-in" 2>&1
    $peer talk "muxed:7:$work/vsock" $vsock_bytes >"$work/vsock-in" 2>&1
    $peer talk "muxed:8:$work/vsock" 1 >"$work/nobody" 2>&1 && echo "somebody" >"$work/nobody"
}
hang_up() {
    kill $server 2>/dev/null
    wait $server 2>/dev/null
    # Where no guest called, nobody needs to wait for it any longer.
    $peer talk tcp:47081:127.0.0.1 0 >/dev/null 2>&1
    $peer talk "unix:$work/vsock_80" 0 >/dev/null 2>&1
}
# Both ends, of which one is the guest, have seen so many bytes, and the same.
both_say() { # NAME BYTES
    [ -n "$why" ] || case $(said "$1") in
    "$2 "?*) is "$1" "$(cat "$work/$1" 2>/dev/null)" ;;
    *) why="$1 is '$(said "$1")', of $2 bytes" ;;
    esac
}

# All devices at once: by ACPI, or with the kernel's PVH entry; directly and behind the IOMMU.
# Linux 6.1 has no flush queue with virtio-iommu, so lazy is strict there.
group_devices() {
    machines="cloud:bzimage:1:off:exits small:vmlinux:1:strict:exits small:bzimage:1:lazy:thread"
    mkdir -p "$work/root"
    cp $peer "$work/root/"
    {
        echo "tcp_bytes=$tcp_bytes vsock_bytes=$vsock_bytes"
        echo "$disk_test"
        echo "$groups_test"
        cat <<'TEST'
echo "devices=$(ls /sys/bus/virtio/devices | wc -l)"
echo "rng=$(cat /sys/class/misc/hw_random/rng_current)"
a=$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | sum)
b=$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | sum)
[ "$a" != "$b" ] && echo "random=yes"
echo "hvc=yes" >/dev/hvc0
TEST
        echo "$talk_test"
    } | with_test
    for case in $machines; do
        IFS=: read -r kernel form cpus mode io <<IN
$case
IN
        name="$kernel kernel, --iommu $mode, --io $io"
        head -c 8388608 /dev/zero >"$work/second"
        make_disk first 8
        serve
        start "$kernel" "$form" --cpus "$cpus" --iommu "$mode" --io "$io" --json "$work/run.json" \
            --disk "$work/first" --disk "$work/second" --rng --virtio-console --balloon 16M $talk_options
        call
        finish
        hang_up

        disks_are_right
        [ -n "$why" ] || [ "$(grep -c '"dma_faults": 0' "$work/run.json")" -ge 7 ] ||
            why="devices were refused something"
        verdict "$name: reads and writes disks, as the host sees them" "$why"
        ended 0
        is rng virtio_rng.0
        is random yes
        verdict "$name: entropy comes from the device" "$why"
        ended 0
        is hvc yes
        verdict "$name: what is written to hvc0 comes out" "$why"
        ended 0
        is lease "10.0.2.15 10.0.2.2"
        is fetched "$(sum_of "$work/www/file")"
        is server refused
        verdict "$name: an address by DHCP, and $mib MiB from a server of the host" "$why"
        ended 0
        both_say tcp-out $tcp_bytes
        verdict "$name: $mib MiB there and back over TCP, to a server of the host" "$why"
        ended 0
        both_say tcp-in $tcp_bytes
        verdict "$name: $mib MiB there and back over a forwarded port" "$why"
        ended 0
        both_say vsock-out $vsock_bytes
        is socket refused
        verdict "$name: a vsock connection to the host" "$why"
        ended 0
        both_say vsock-in $vsock_bytes
        [ -n "$why" ] || grep -q 'was answered by' "$work/nobody" || why="a port that nobody listens on: $(cat "$work/nobody")"
        verdict "$name: a vsock connection from the host" "$why"
        [ $mode != off ] || continue
        ended 0
        # Each device in a group of its own, but for the IOMMU and the balloon.
        is devices 8
        is group "$(for i in 1 2 3 4 5 6; do echo "DMA 1"; done)"
        verdict "$name: every device has its group, of type DMA" "$why"
    done

    # Devices that Linux is told to let through.
    {
        echo "$disk_test"
        echo "$groups_test"
    } | with_test
    head -c 8388608 /dev/zero >"$work/second"
    make_disk first 8
    plain=$append append="$append iommu.passthrough=1"
    linux small vmlinux --cpus 4 --iommu bypass --disk "$work/first" --disk "$work/second"
    append=$plain
    disks_are_right
    is group "identity 1
identity 1"
    verdict "small kernel, 4 CPUs, --iommu bypass: groups of type identity, and disks work" "$why"
}

# Named ports of a virtio-console: both ways, who comes and goes, and the terminal's size.
group_ports() {
    machines="cloud:bzimage:off:thread small:vmlinux:strict:exits"
    [ "$SLOW" -lt 10 ] || machines="small:vmlinux:strict:exits"
    # The links are udev's work elsewhere. One program at a time may have a port open.
    cat >"$work/ports" <<'TEST'
i=0
until [ "$(cat /sys/class/virtio-ports/*/name 2>/dev/null | wc -l)" -ge 2 ] || [ $i -eq 100 ]; do
    sleep 0.1
    i=$((i + 1))
done
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
    name=$(cat "$port/name" 2>/dev/null)
    [ -z "$name" ] || ln -s "/dev/${port##*/}" "/dev/virtio-ports/$name"
done
TEST
    {
        cat "$work/ports"
        cat <<'TEST'
echo "ports=$(echo $(ls /dev/virtio-ports))"
exec 3<>/dev/virtio-ports/org.echo 4<>/dev/virtio-ports/org.end
echo "ready=yes"
echo early >&3
while :; do cat <&3 >&3; sleep 0.1; done &
until [ "$(head -n 1 <&4)" = end ]; do sleep 0.1; done
echo "done=yes"
TEST
    } | with_test
    for case in $machines; do
        IFS=: read -r kernel form mode io <<IN
$case
IN
        start "$kernel" "$form" --iommu "$mode" --io "$io" --virtio-port name=org.echo,path="$work/echo" \
            --virtio-port name=org.end,path="$work/end" --json "$work/run.json"
        why=
        await "$out" 'ready=yes' || why="it never came up"
        # What the guest says first it said before anybody was there.
        for before in 'early
' ''; do
            head -c 300000 /dev/urandom >"$work/sent"
            { printf %s "$before"; cat "$work/sent"; } >"$work/right"
            timeout -s KILL $((limit * SLOW)) build/tests/with-socket "$work/echo" \
                $((300000 + ${#before})) <"$work/sent" >"$work/back" 2>&1 ||
                why="${why:-no echo}"
            [ -n "$why" ] || cmp -s "$work/right" "$work/back" || why="another echo"
        done
        # Said, and gone.
        echo end | build/tests/with-socket "$work/end" 0 2>/dev/null
        finish
        [ -n "$why" ] || ended 0
        is ports "org.echo org.end"
        is done yes
        [ -n "$why" ] || grep -q '"connections": 2,' "$work/run.json" || why="not two connections"
        [ -n "$why" ] || [ ! -e "$work/echo" ] || why="the socket is still there"
        verdict "$kernel kernel, --iommu $mode, --io $io: ports, to and fro, for one after the other" "$why"
    done

    {
        cat "$work/ports"
        cat <<'TEST'
exec 3<>/dev/hvc0
until [ "$size" = "20 90" ]; do
    now=$(stty size <&3 2>/dev/null)
    [ "$now" = "$size" ] || echo "size=$now"
    size=$now
    sleep 0.1
done
TEST
    } | with_test
    build/tests/with-terminal raw size:100x30 expect:'size=30 100' size:90x20 expect:'size=20 90' \
        status:0 -- "$STRATA" run --kernel "$(image_of small vmlinux)" --initrd "$work/initrd" \
        --append "$append" --virtio-console --virtio-port name=a,path="$work/echo" >"$out" 2>"$err"
    status=$?
    ended 0
    verdict "the console among ports has the terminal's size, and its changes" "$why"
}

# Memory that goes back to the host, as its kernel counts it.
resident() { # KiB of the machine's process
    kib=$(awk '/^Rss:/ { kib += $2 } END { print kib + 0 }' "/proc/$pid/smaps" 2>/dev/null)
    echo "${kib:-0}"
}
until_resident() { # KIB: waits until there is no more than that
    in_time $((limit * 10)) resident_or_ended "$1"
    running && [ "$now" -le "$1" ] || [ -n "$why" ] || why="$now KiB are resident, should be $1 at most"
}
resident_or_ended() { # KIB
    now=$(resident)
    [ "$now" -le "$1" ] || ! running
}
await_or_say() { # NAME: for a line NAME=yes, and complains if there is none
    await "$out" "^$1=yes" || [ -n "$why" ] || why="the guest never said $1=yes"
}
set_balloon() { # SIZE, as it is shown, too: waits until the guest has obeyed
    "$STRATA" inspect "$work/control" balloon "$1" >"$work/balloon" 2>&1
    in_time $((limit * 10)) inflated_or_ended "$1"
    grep -q " wanted, $1 in it" "$work/balloon" || [ -n "$why" ] || why="$(head -n 1 "$work/balloon")"
}
inflated_or_ended() { # SIZE
    grep -q " wanted, $1 in it" "$work/balloon" || ! running && return
    "$STRATA" inspect "$work/control" balloon >"$work/balloon" 2>&1
    return 1
}
figure() { # NAME: a number of the run's JSON
    sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" "$work/run.json" 2>/dev/null
}

# Of 256 MiB: 64 in a file that is deleted, then 64 of a disk in the page cache. Free memory
# is told of in blocks of 4 MiB, so not all of it comes back.
group_memory() {
    with_test <<'TEST'
next() {
    echo "$1=yes"
    read -r go_on
}
head -c 67108864 /dev/zero >/dev/shm/fill
next filled
rm /dev/shm/fill
next freed
before=$(sha256sum </dev/vda)
next cached
echo "less=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
next small
echo "more=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
cp /dev/vda /dev/shm/fill
[ "$before" = "$(sha256sum </dev/shm/fill)" ] && echo "again=same"
TEST
    make_disk first 64
    start small vmlinux --cpus 1 --memory 256M --iommu strict --balloon 0 --disk "$work/first" \
        --control "$work/control" --json "$work/run.json"
    why=
    await_or_say filled
    full=$(resident)
    type_in ""
    await_or_say freed
    until_resident $((full - 40960))
    [ -n "$why" ] || [ "$full" -gt 65536 ] || why="the guest had $full KiB"
    given=$((full - $(resident)))
    verdict "of 64 MiB that a guest program has freed the host gets 40 or more back" "$why"
    type_in ""
    await_or_say cached
    # More than it may have later.
    [ -n "$why" ] || [ "$(resident)" -gt $(((256 - 192 + 16) << 10)) ] ||
        why="$(resident) KiB are resident after reading a disk"
    set_balloon 192M
    until_resident $(((256 - 192 + 8) << 10))
    verdict "a balloon of 192 MiB in 256: the host has no more than the rest, and 8 MiB of its own" "$why"
    type_in ""
    await_or_say small
    set_balloon 0K
    type_in ""
    finish
    [ -n "$why" ] || ended 0
    is again same
    less=$(said less) more=$(said more)
    [ -n "$why" ] || [ $((${more:-0} - ${less:-0})) -eq 192 ] || why="the guest had $less MiB, then $more"
    [ -n "$why" ] || { [ "$(figure actual_pages)" = 0 ] && [ "$(figure inflated_bytes)" -ge 201326592 ] &&
        [ "$(figure reported_bytes)" -ge $((given << 10)) ]; } || why="other figures in the JSON"
    verdict "an emptied balloon: the guest has its memory again, and the JSON tells the same" "$why"

    # Without one nothing comes back; nor does a watchdog take a guest that waits for a hung one.
    start small vmlinux --cpus 2 --memory 256M --watchdog 3
    why=
    await_or_say filled
    full=$(resident)
    type_in ""
    await_or_say freed
    sleep 8
    [ -n "$why" ] || running || why="it has ended"
    [ -n "$why" ] || [ "$(resident)" -ge "$full" ] || why="of $full KiB $(resident) are left"
    finish TERM
    [ -n "$why" ] || ended 143
    verdict "without a balloon nothing comes back; and --watchdog lets an idle guest alone" "$why"
}

# Distinct statuses (strata(1), EXIT STATUS).
group_ends() {
    for case in cloud:bzimage small:vmlinux; do
        kernel=${case%:*} form=${case#*:}
        echo 'echo "here=yes"; poweroff -f' | with_test
        linux "$kernel" "$form"
        ended 0
        is here yes
        verdict "$kernel kernel: poweroff ends it with 0" "$why"
        echo 'reboot -f' | with_test
        linux "$kernel" "$form"
        ended 16
        verdict "$kernel kernel: reboot ends it with 16" "$why"
        echo 'echo c >/proc/sysrq-trigger' | with_test
        linux "$kernel" "$form"
        ended 17
        verdict "$kernel kernel: panic ends it with 17" "$why"
    done
    # A script on standard input is there before the kernel is, which says much as it starts.
    cp "$images/initrd" "$work/initrd"
    typed=$work/typed append="console=ttyS0 panic=-1"
    seq 100 | sed 's/.*/n=$((n + &))/; $a echo "sum""=$n"; poweroff -f' >"$typed"
    linux cloud vmlinux
    ended 0
    is sum 5050
    verdict "cloud kernel: a script on standard input is carried out, all of it" "$why"
    typed=/dev/null append="console=ttyS0 quiet loglevel=1 panic=-1"
    # Halted with interrupts off, on every CPU.
    echo 'halt -f' | with_test
    linux small vmlinux --cpus 4 --watchdog 1
    ended 23
    [ -n "$why" ] || grep -q 'all vCPUs are halted with interrupts off' "$err" || why="no report of a hang"
    verdict "small kernel: a halted one hangs, which the watchdog ends with 23" "$why"
}

flushed_is() { # FILE: complains unless it begins with what the guest has flushed
    head -c 1048576 "$1" >"$work/flushed"
    sum_is "$work/flushed" "$(said flushed)" "what was flushed is not on the disk"
}

# What the guest had flushed is on the disk, whatever happens then.
group_faults() {
    # Killed while it writes on.
    with_test <<'TEST'
head -c 1048576 /dev/urandom >/dev/shm/data
dd if=/dev/shm/data of=/dev/vda bs=64k conv=fsync,notrunc 2>/dev/null
echo "flushed=$(sha256sum </dev/shm/data | cut -c 1-64)"
while :; do dd if=/dev/urandom of=/dev/vda bs=64k seek=32 conv=notrunc 2>/dev/null; done
TEST
    for io in exits thread; do
        make_disk first 8
        start small vmlinux --disk "$disk" --io $io
        why=
        await "$out" 'flushed=................................................................' || why="it never flushed"
        finish KILL
        [ -n "$why" ] || [ $status -eq 137 ] || why="exit status $status, should be 137"
        flushed_is "$disk"
        [ -n "$why" ] || [ "$(stat -c %s "$disk")" -eq 8388608 ] || why="the disk has another size"
        verdict "--io $io: SIGKILL loses nothing that was flushed" "$why"
    done

    # The host's file system is full.
    name="a full file system under the disk loses nothing that was flushed"
    mkdir -p "$work/small"
    if mount -t tmpfs -o size=4m full "$work/small" 2>/dev/null; then
        truncate -s 16M "$work/small/disk" 2>/dev/null || dd if=/dev/zero of="$work/small/disk" bs=1 count=0 seek=16M 2>/dev/null
        with_test <<'TEST'
head -c 1048576 /dev/urandom >/dev/shm/data
dd if=/dev/shm/data of=/dev/vda bs=64k conv=fsync,notrunc 2>/dev/null && echo "first=written"
dd if=/dev/zero of=/dev/vda bs=64k seek=16 conv=fsync,notrunc 2>/dev/null || echo "rest=refused"
echo 3 >/proc/sys/vm/drop_caches
echo "flushed=$(sha256sum </dev/shm/data | cut -c 1-64)"
echo "read=$(head -c 1048576 /dev/vda | sha256sum | cut -c 1-64)"
TEST
        linux small vmlinux --disk "$work/small/disk"
        ended 0
        is first written
        is rest refused
        is "read" "$(said flushed)"
        flushed_is "$work/small/disk"
        verdict "$name" "$why"
        umount "$work/small"
    else
        skip "$name" "needs the right to mount"
    fi

    # Written although it is read-only.
    with_test <<'TEST'
echo "ro=$(cat /sys/block/vda/ro)"
dd if=/dev/zero of=/dev/vda bs=64k count=1 conv=fsync,notrunc 2>/dev/null || echo "write=refused"
mount -t ext4 /dev/vda /mnt 2>/dev/null || echo "mount=refused"
echo "read=$(sha256sum </dev/vda | cut -c 1-64)"
TEST
    make_disk first 8
    linux small vmlinux --disk "$disk,ro"
    ended 0
    is ro 1
    is write refused
    is mount refused
    is "read" "$sum"
    sum_is "$disk" "$sum" "the file has changed"
    verdict "a read-only disk is read, and refuses to be written" "$why"

    # An initramfs that ends early: no init, and the kernel panics.
    make_disk first 8
    echo | with_test
    head -c 100000 "$work/initrd" >"$work/cut" && mv "$work/cut" "$work/initrd"
    linux small vmlinux --disk "$disk"
    ended 17
    sum_is "$disk" "$sum" "the disk has changed"
    verdict "a broken initramfs is the kernel's panic, and no disk is touched" "$why"
}

# What may be given by mistake or on purpose. To be run with build/asan/strata too.
refused() { # NAME ARGUMENT…: in one line, before there is a machine
    name=$1
    shift
    timeout -s KILL $((limit * SLOW)) "$STRATA" run "$@" >"$out" 2>"$err" </dev/null
    status=$?
    ended 2
    [ -n "$why" ] || [ "$(wc -l <"$err")" -eq 1 ] || why="not one line"
    [ -n "$why" ] || [ ! -s "$out" ] || why="it started"
    [ -z "$why" ] || bad="$bad$name: $why; "
}
# Whatever becomes of the guest: strata ends as it should.
survived() { # STATUS…
    case " $* " in
    *" $status "*) why= ;;
    *) why="exit status $status" ;;
    esac
    ! grep -Eq 'Sanitizer|runtime error' "$err" || why="$(grep -Em 1 'Sanitizer|runtime error' "$err")"
}
group_hostile() {
    # Images and initramfs that end somewhere.
    bad=
    for form in bzimage vmlinux; do
        image=$(image_of small $form)
        bytes=$(stat -c %s "$image")
        for cut in 0 1 63 64 511 512 600 4096 $((bytes / 3)) $((bytes / 2)); do
            head -c $cut "$image" >"$work/image"
            refused "$form of $cut bytes" --kernel "$work/image"
        done
    done
    image=$(image_of small bzimage)
    refused "initramfs larger than memory" --kernel "$image" --memory 8M --initrd "$(image_of cloud vmlinux)"
    refused "a directory as kernel" --kernel "$work"
    refused "a directory as initramfs" --kernel "$image" --initrd "$work"
    : >"$work/none"
    refused "a disk of no sector" --kernel "$image" --disk "$work/none"
    refused "a directory as disk" --kernel "$image" --disk "$work"
    long=$(head -c 2048 /dev/zero | tr '\0' x)
    refused "a command line of 2048 bytes" --kernel "$image" --append "$long"
    refused "a command line of 65536 bytes" --kernel "$image" --append "$(head -c 65536 /dev/zero | tr '\0' x)"
    verdict "hostile: cut images, directories, long command lines: a line for each" "${bad%; }"

    # As long as may be.
    echo 'echo "command=$(wc -c </proc/cmdline)"' | with_test
    plain=$append append="$append $(head -c $((2046 - ${#append})) /dev/zero | tr '\0' x)"
    linux small bzimage
    ended 0
    is "command" 2048
    verdict "hostile: a command line of 2047 bytes arrives" "$why"

    # Memory and devices that are not there.
    append="$plain earlyprintk=ttyS0 mem=96M memmap=16M\$64M virtio_mmio.device=4K@0xd0000000:16 virtio_mmio.device=1@0:0 virtio_mmio.device=4K@0xfffffffffffff000:4294967295"
    echo | with_test
    truncate -s 1M "$work/first"
    linux small vmlinux --cpus 2 --disk "$work/first" --watchdog 2
    append=$plain
    survived 0 16 17 18 19 23
    [ -n "$why" ] || [ -s "$out" ] || why="it never said anything"
    verdict "hostile: a command line that takes memory and adds devices" "$why"
}

# A tap interface of the host is deleted while the guest uses it.
group_tap() {
    name="a deleted tap interface: its link is down, all else goes on"
    # Where this is the first process's system, as in an emulated host, it is not loaded yet.
    [ -e /dev/net/tun ] || insmod /lib/modules/tun.ko 2>/dev/null
    if ! tunctl -t strata0 >/dev/null 2>&1; then
        skip "a tap interface of the host" "not available here, because no tap interface can be made"
        skip "$name" "as above"
        return
    fi
    ip addr add 10.99.0.1/24 dev strata0 && ip link set strata0 up
    with_test <<'TEST'
ip addr add 10.99.0.2/24 dev eth0
ip link set eth0 up
echo "fetched=$(wget -q -O - http://10.99.0.1:47080/file | sha256sum | cut -c 1-64)"
echo "carrier=$(cat /sys/class/net/eth0/carrier)"
ping 10.99.0.1 >/dev/null &
i=0
while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do
    dd if=/dev/urandom of=/dev/vda bs=64k count=16 seek=32 conv=fsync,notrunc 2>/dev/null
    i=$((i + 1))
    echo "writes=yes"
done
head -c 1048576 /dev/urandom >/dev/shm/data
dd if=/dev/shm/data of=/dev/vda bs=64k conv=fsync,notrunc 2>/dev/null
echo "flushed=$(sha256sum </dev/shm/data | cut -c 1-64)"
wget -q -T 2 -O - http://10.99.0.1:47080/file || echo "then=unreachable"
TEST
    make_disk first 8
    mkdir -p "$work/www"
    head -c 4194304 /dev/urandom >"$work/www/file"
    busybox httpd -f -p 10.99.0.1:47080 -h "$work/www" & server=$!
    start small vmlinux --iommu strict --disk "$disk" --net tap=strata0 --json "$work/run.json"
    await "$out" 'writes=yes'
    ip link delete strata0
    finish
    kill $server 2>/dev/null
    ended 0
    is fetched "$(sum_of "$work/www/file")"
    is carrier 1
    verdict "a tap interface of the host: a file from a server there" "$why"
    ended 0
    is "then" unreachable
    flushed_is "$disk"
    [ -n "$why" ] || grep -q '"link": false' "$work/run.json" || why="the link is not down in the JSON"
    verdict "$name" "$why"
}

# Boots in a row: each kernel, form and number of CPUs gets its turn.
group_soak() {
    echo 'echo "cpus=$(nproc)"' | with_test
    boots=0 bad=0
    while [ $boots -lt "$soak" ]; do
        for case in small:vmlinux cloud:bzimage small:bzimage cloud:vmlinux; do
            [ $boots -lt "$soak" ] || break
            boots=$((boots + 1)) cpus=$((boots % 4 + 1))
            linux "${case%:*}" "${case#*:}" --cpus $cpus
            ended 0
            is cpus $cpus
            [ -z "$why" ] || { bad=$((bad + 1)); verdict "boot $boots, $case, $cpus CPUs" "$why"; }
        done
    done
    why=
    [ $bad -eq 0 ] || why="$bad failed"
    verdict "$boots boots in a row" "$why"
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
images=${1-}
[ -f "$images/initrd" ] || { echo "Bail out! no images in '$images': run scripts/guest-linux fetch and build"; exit 2; }
shift
soak=100
[ "${1-}" != soak ] || { soak=${2:-100}; set -- soak; }

if [ "$control" ]; then
    [ $# -gt 0 ] || set -- $ALL quick hostile
    control tests/guests/linux.sh "$images" "$@"
fi

[ -x "$STRATA" ] || { echo "Bail out! $STRATA is not built"; exit 2; }
for group in ${@:-$ALL}; do
    echo "# $group"
    "group_$group"
done
plan
