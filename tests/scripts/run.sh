#!/bin/bash
# Tests of scripts/ themselves. Prints TAP, exits 1 if one failed. The emulated
# hosts' own part is tested on npt, which starts quickly; what runs in ept is the
# same.
cd "$(dirname "$0")/../.." || exit 2
root=$PWD
. tests/tap.sh
limit=60

# Runs a command; sets status, keeps its output.
run() {
	timeout -k 5 300 "$@" >"$work/out" 2>"$work/err"
	status=$?
}
same() { # WHAT FILE TEXT: complains unless FILE holds exactly TEXT
	printf '%s' "$3" | cmp -s - "$2" || echo "$1 is not what it should be; "
}
expect() { # STATUS: complains unless that was the exit status
	[ "$status" -eq "$1" ] || echo "status $status, should be $1; "
}
misuse() { # NAME PATTERN COMMAND…: status 2, no output, one line that matches
	local name=$1 pattern=$2 why
	shift 2
	run "$@" </dev/null
	why=$(expect 2; same stdout "$work/out" '')
	grep -q -e "$pattern" "$work/err" || why+="stderr does not match $pattern; "
	[ "$(wc -l <"$work/err")" -eq 1 ] || why+="not one line on stderr"
	verdict "$name" "$why"
}
emulators() { # those with our mark in their command line
	grep -lsaF -e "$work/cache" /proc/[0-9]*/cmdline | while read -r file; do
		! grep -qsa '^qemu' "$file" || echo "$file"
	done
}
no_emulators() { [ -z "$(emulators)" ]; }

# --- misuse

misuse "emuhost without a host" 'npt, ept, any or own' scripts/emuhost
misuse "emuhost with an unknown host" 'frob' scripts/emuhost frob -- true
misuse "emuhost without a command" 'COMMAND' scripts/emuhost npt --
misuse "emuhost with an unknown option" 'frob' scripts/emuhost npt --frob -- true
misuse "emuhost with a limit that is no number" 'soon' scripts/emuhost npt --timeout soon -- true
misuse "emuhost with an option without its value" '--out' scripts/emuhost npt --out
misuse "emuhost ept with two processors" 'processor' scripts/emuhost ept --cpus 2 -- true
misuse "emuhost with a file that is not there" 'nothing' scripts/emuhost npt --with "$work/nothing" -- true
misuse "emuhost ept counting instructions" 'icount' scripts/emuhost ept --icount -- true
misuse "deps for an unknown purpose" 'run, test, npt, ept, guest or linux' scripts/deps frob
misuse "guest-linux without a command" 'fetch, build or dir' scripts/guest-linux
misuse "guest-linux with an unknown command" 'frob' scripts/guest-linux frob
misuse "guest-linux with two commands" 'one command' scripts/guest-linux fetch build
misuse "bench-peers with an unknown option" 'frob' scripts/bench-peers --frob
misuse "bench-peers with an argument" "superfluous argument 'frob'" scripts/bench-peers frob
misuse "bench-peers with an option without its value" '--json takes a value' scripts/bench-peers --json
misuse "bench-peers writing where no file can be" 'no file can be written' scripts/bench-peers --json "$work/nothing/peers.json"
misuse "bench-peers with a number of starts that is none" "not '0'" scripts/bench-peers --runs 0
misuse "bench-peers with a peer that is not there" "kvmtool: .*nothing' is no program" scripts/bench-peers --peer "kvmtool=$work/nothing"
misuse "bench-peers with a peer that is no program" 'is no program' scripts/bench-peers --peer qemu=README.md
misuse "bench-peers with an unknown peer" "not 'frob=/bin/true'" scripts/bench-peers --peer frob=/bin/true
misuse "bench-peers with a peer without its path" "not 'kvmtool'" scripts/bench-peers --peer kvmtool
misuse "bench with an unknown part" 'frob' scripts/bench frob
misuse "bench with a number of pairs that is none" '1 to 9999' scripts/bench --pairs 0
misuse "check with an unknown step" 'frob' scripts/check frob
misuse "check with an unknown option" 'frob' scripts/check --frob
for script in emuhost deps check guest-linux bench bench-peers; do
	run scripts/$script --help
	why=$(expect 0; same stderr "$work/err" '')
	grep -q "^usage: scripts/$script" "$work/out" || why+="no usage on stdout"
	verdict "$script --help" "$why"
done

# --- bench-peers: VMMs that are none

printf '#!/bin/sh\necho "first line of init"\nsleep 60\n' >"$work/no-guest"
chmod +x "$work/no-guest"
make -s build/bench/peers
run build/bench/peers --strata "$work/no-guest" --vmlinux /dev/null --bzimage /dev/null --initrd /dev/null \
	--peer qemu=/bin/true --peer "kvmtool=$work/nothing" --runs 1 --json "$work/peers.json"
why=$(expect 2; same stderr "$work/err" '')
for line in 'strata +pvh +not measured: no mapping of it looks like guest RAM' 'strata +bzimage +not measured: no map' \
	'qemu +pvh +not measured: it ended before' 'kvmtool +bzimage +not measured: No such file' \
	'firecracker +pvh +not measured: not given; --peer firecracker=PATH' 'not judged +PVH'; do
	grep -qE "^$line" "$work/out" || why+="no line '$line'; "
done
grep -q '"schema": "strata.bench-peers"' "$work/peers.json" || why+="no JSON"
verdict "bench-peers says of each VMM why it was not measured" "$why"

# --- deps where there is nothing to install with

mkdir "$work/bin"
for tool in bash id mktemp cat grep rm sed head; do
	ln -s "$(command -v $tool)" "$work/bin/$tool"
done
run env PATH="$work/bin" scripts/deps run
why=$(expect 1)
grep -q 'no apt-get.*make gcc libc6-dev' "$work/err" || why+="it does not name the packages"
verdict "deps without apt-get names the packages" "$why"

printf '#!/bin/sh\necho 1000\n' >"$work/id"
printf '#!/bin/sh\n' >"$work/bin/apt-get"
rm "$work/bin/id"
mv "$work/id" "$work/bin/id"
chmod +x "$work/bin/id" "$work/bin/apt-get"
run env PATH="$work/bin" scripts/deps run
why=$(expect 1)
grep -q 'not root.*apt-get install' "$work/err" || why+="it does not name the privilege"
verdict "deps without root or sudo names what is to be done" "$why"

# --- guest-linux where there is nothing yet, and no network

run env XDG_CACHE_HOME="$work/empty" scripts/guest-linux dir
why=$(expect 1; same stdout "$work/out" '')
grep -q 'guest-linux fetch' "$work/err" || why+="it does not say what to do"
verdict "guest-linux dir says what is missing" "$why"
: >"$work/file"
run env XDG_CACHE_HOME="$work/file" scripts/guest-linux build
why=$(expect 1)
grep -q 'cannot write.*XDG_CACHE_HOME' "$work/err" || why+="no word about the cache"
verdict "guest-linux build without a place to write to" "$why"
mkdir "$work/offline"
printf '#!/bin/sh\necho "Could not resolve deb.debian.org" >&2\nexit 100\n' >"$work/offline/apt-get"
chmod +x "$work/offline/apt-get"
run env PATH="$work/offline:$PATH" XDG_CACHE_HOME="$work/empty" scripts/guest-linux build
why=$(expect 1)
grep -q 'network' "$work/err" || why+="no word about the network; "
grep -q 'Could not resolve' "$work/err" || why+="apt's own words are missing; "
[ -z "$(find "$work/empty" -name 'new*' -o -name 'small*')" ] || why+="something half-done is left"
verdict "guest-linux build without network leaves nothing" "$why"

# A build with an apt, dpkg-deb and make of ours, which take no time, or for ever.
mkdir "$work/fake"
cat >"$work/fake/apt-get" <<'SH'
#!/bin/sh
: >linux-source-6.1_6.1.0-1_all.deb
SH
cat >"$work/fake/dpkg-deb" <<'SH'
#!/bin/sh
cat "$FAKE_DEB"
SH
cat >"$work/fake/make" <<'SH'
#!/bin/sh
while [ "$1" != -C ]; do shift; done
cd "$2" || exit
case $* in
*allnoconfig) grep CONFIG_ "$FAKE_CONFIG" >.config; exit ;;
esac
mkdir -p arch/x86/boot
echo "half" >vmlinux
[ ! -e "$FAKE_STALL" ] || { : >"$FAKE_STALL.here"; exec sleep 60; }
echo "whole" | tee vmlinux >arch/x86/boot/bzImage
SH
chmod +x "$work"/fake/*
mkdir -p "$work/deb/usr/src" "$work/source/linux-source-6.1"
tar -C "$work/source" -cJf "$work/deb/usr/src/linux-source-6.1.tar.xz" linux-source-6.1
tar -C "$work/deb" -cf "$work/fake.deb" ./usr/src/linux-source-6.1.tar.xz
fake=("PATH=$work/fake:$PATH" "FAKE_DEB=$work/fake.deb" "FAKE_STALL=$work/stall"
	"FAKE_CONFIG=$root/tests/guests/linux.config" "XDG_CACHE_HOME=$work/linux")
for signal in TERM KILL; do
	: >"$work/stall"
	rm -rf "$work/stall.here" "$work/linux"
	env "${fake[@]}" setsid scripts/guest-linux build >"$work/out" 2>"$work/err" &
	build=$!
	in_time $((limit * 10)) [ -e "$work/stall.here" ]
	why=
	[ -e "$work/stall.here" ] || why="it never came to building; "
	# Everything, as when the machine goes down, or only the script.
	if [ $signal = KILL ]; then kill -KILL -- -$build; else kill -TERM $build; fi
	wait $build 2>/dev/null
	[ -z "$(find "$work/linux" -name 'small*')" ] || why+="a kernel is there that was not built; "
	[ $signal = KILL ] || [ -z "$(find "$work/linux" -name 'new*')" ] || why+="something half-done is left; "
	rm "$work/stall"
	run env "${fake[@]}" scripts/guest-linux build
	why+=$(expect 0)
	[ "$(cat "$work"/linux/strata/linux/small-{vmlinux,bzImage} 2>&1)" = "whole"$'\n'"whole" ] || why+="not the kernel that was built; "
	[ -z "$(find "$work/linux" -name 'new*')" ] || why+="something half-done is left"
	verdict "guest-linux build, interrupted by SIG$signal and started again" "$why"
done

# --- check's verdicts on steps that go wrong

cat >"$work/steps" <<'TABLE'
good 60 printf 'ok 1 - a\nok 2 - b # SKIP no\n1..2\n'
bad 60 printf 'not ok 1 - a\n# because\n1..1\n'; exit 1
crash 60 echo 'ok 1 - a'; kill -SEGV $$
slow 3 echo 'ok 1 - a'; sleep 60
plan 60 printf '1..3\nok 1 - a\n'
exit 60 echo 'ok 1 - a'; exit 1
silent 60 true
bail 60 printf 'ok 1 - a\nBail out! no\n'
none 60 echo '1..0 # SKIP never'
TABLE
for step in good:1:0:1:0 bad:0:1:0:1 crash:1:1:0:1 slow:1:1:0:1 plan:1:1:0:1 exit:1:1:0:1 \
	silent:0:1:0:1 bail:1:1:0:1 none:0:0:1:1; do
	IFS=: read -r name p f s want <<<"$step"
	run scripts/check --steps "$work/steps" "$name"
	why=$(expect "$want")
	[ "$(tail -n 1 "$work/out")" = "$p passed, $f failed, $s skipped" ] || why+="last line: $(tail -n 1 "$work/out")"
	verdict "check's verdict on a step: $name" "$why"
	rm -f "build/check/$name.tap" "build/check/$name.err"
done

# --- emuhost

if ! scripts/deps npt 2>"$work/err"; then
	skip "emuhost" "$(head -n 1 "$work/err")"
	echo "1..$n"
	exit $((failed > 0))
fi

# A cache of its own, with the kernel of the usual one, tells its processes.
mkdir -p "$work/cache/strata"
ln -s "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/strata/kernel" "$work/cache/strata/kernel"
export XDG_CACHE_HOME=$work/cache

# One start shows much: arguments, both outputs byte by byte, input, status,
# directories, files that go along and files that come back.
printf 'from here' >"$work/with this"
printf 'line\n\0\377end' >"$work/in"
mkdir "$work/results"
cat >"$work/inside" <<'INSIDE'
printf '<%s>' "$@"
cat
cat "$WORK/with this" >&2
echo kept >"$WORK/results/a file"
mkdir "$WORK/results/empty"
echo one >"$WORK/one"
echo "$PWD"
[ -c /dev/kvm ] && cat /sys/module/kvm_amd/parameters/npt
[ -t 1 ] || [ -t 2 ] || echo no terminal
sleep 1000 &
exit 42
INSIDE
cd "$work" || exit 2
run "$root/scripts/emuhost" npt --with "with this" --with inside --out results --result one -- \
	env WORK="$work" sh inside 'a  b' "it's" '$HOME `id` \n "' '' $'two\nlines' '*' <"$work/in"
cd "$root" || exit 2
verdict "emuhost: status of the command" "$(expect 42)"
{
	printf '<%s>' 'a  b' "it's" '$HOME `id` \n "' '' $'two\nlines' '*'
	cat "$work/in"
	printf '%s\nY\nno terminal\n' "$work"
} >"$work/expected"
verdict "emuhost: arguments, stdin, directory and stdout" "$(cmp "$work/expected" "$work/out" 2>&1)"
verdict "emuhost: stderr by itself, a file from outside" "$(same stderr "$work/err" 'from here')"
why=
[ "$(cat "$work/results/a file" 2>&1)" = kept ] || why="--out brought no file back; "
[ -d "$work/results/empty" ] || why+="--out brought no directory back; "
[ "$(cat "$work/one" 2>&1)" = one ] || why+="--result brought nothing back"
verdict "emuhost: results come back" "$why"

run scripts/emuhost npt -- no-such-command </dev/null
verdict "emuhost: a command that is not there" "$(expect 127)"

# A build that nobody asked for stays out: many of them would fill the host's root.
mkdir -p build/fault/planted
echo planted >build/fault/planted/strata
run scripts/emuhost npt -- find build -name planted </dev/null
why=$(expect 0; same stdout "$work/out" '')
run scripts/emuhost npt -- cat build/fault/planted/strata </dev/null
verdict "emuhost: a seeded build goes along when it is named" \
	"$why$(expect 0; same stdout "$work/out" $'planted\n')"
rm -r build/fault/planted
truncate -s 1G "$work/big"
run scripts/emuhost npt --with "$work/big" -- true </dev/null
why=$(expect 3)
grep -q 'MiB of files.*--memory' "$work/err" || why+="no word about the size; "
verdict "emuhost: more files than the host has room for" "$why"
rm "$work/big"

run scripts/emuhost npt --timeout 5 -- sh -c 'echo up; sleep 1000' </dev/null
why=$(expect 124; same stdout "$work/out" $'up\n')
grep -q 'within 5 s' "$work/err" || why+="no word about the limit; "
in_time $((limit * 10)) no_emulators || why+="an emulator is still there"
verdict "emuhost: a limit ends the command with status 124" "$why"

# A start takes minutes where much else runs.
limit=600
for signal in TERM KILL; do
	scripts/emuhost npt -- sh -c 'echo up; sleep 1000' >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	await "$work/out" '^up'
	why=
	! no_emulators || why="no emulator was seen; "
	{ kill -$signal $pid; wait $pid; } 2>/dev/null
	pid=
	in_time $((limit * 10)) no_emulators || why+="an emulator is still there"
	verdict "emuhost: SIG$signal leaves no process" "$why"
done
why=
[ -n "$(ls "$work/cache/strata/run")" ] || why="SIGKILL left nothing to clean; "
touch -d '10 minutes ago' "$work"/cache/strata/run/*

# An emulator that has had more than enough CPU time is given up; one that is only late is
# not, however late: this one takes longer than any start, and uses nothing meanwhile.
mkdir "$work/fake-qemu"
qemu=$(command -v qemu-system-x86_64)
cat >"$work/fake-qemu/qemu-system-x86_64" <<FAKE
#!/bin/sh
echo again >>$work/starts
sleep 40
exec $qemu "\$@"
FAKE
chmod +x "$work/fake-qemu/qemu-system-x86_64"
run env PATH="$work/fake-qemu:$PATH" scripts/emuhost npt -- echo up </dev/null
why=$(expect 0; same stdout "$work/out" $'up\n'; same stderr "$work/err" '')
[ "$(wc -l <"$work/starts")" -eq 1 ] || why+="it was started again"
verdict "emuhost: a late start is waited for" "$why"
printf '#!/bin/sh\nwhile :; do :; done\n' >"$work/fake-qemu/qemu-system-x86_64"
run env PATH="$work/fake-qemu:$PATH" EMUHOST_STUCK_CPU=2 scripts/emuhost npt -- echo up </dev/null
why=$(expect 3; same stdout "$work/out" '')
[ "$(grep -cE '^emuhost: start [123]: the emulator used [0-9]+ s of CPU time without getting further; .* load average' "$work/err")" -eq 3 ] ||
	why+="it does not say of three starts what it saw"
verdict "emuhost: an emulator that does not get further is given up" "$why"

# An emulator that does not come up gets another try; here the first does not.
cat >"$work/fake-qemu/qemu-system-x86_64" <<FAKE
#!/bin/sh
[ -e $work/tried ] || { : >$work/tried; exit 1; }
exec $qemu "\$@"
FAKE
chmod +x "$work/fake-qemu/qemu-system-x86_64"
run env PATH="$work/fake-qemu:$PATH" scripts/emuhost npt -- echo up </dev/null
verdict "emuhost: another try when the emulator did not come up" "$(expect 0; same stdout "$work/out" $'up\n')"
[ -z "$(ls "$work/cache/strata/run")" ] || why+="something is left"
verdict "emuhost: the next start cleans up after a killed one" "$why"
printf '#!/bin/sh\necho broken >&2\nexit 1\n' >"$work/fake-qemu/qemu-system-x86_64"
run env PATH="$work/fake-qemu:$PATH" scripts/emuhost npt -- echo up </dev/null
why=$(expect 3; same stdout "$work/out" '')
grep -q broken "$work/err" || why+="the emulator's own words are missing"
verdict "emuhost: status 3 when the emulator never comes up" "$why"

# --- strata where there is no KVM

cat >"$work/no-kvm" <<NOKVM
[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm || exit 99
cd "$work" && exec "$root/scripts/strata" "\$@"
NOKVM
if unshare -m true 2>/dev/null; then
	cat >"$work/hidden" <<HIDDEN
[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm || exit 99
cd "$root" && exec "\$@"
HIDDEN
	run unshare -m sh "$work/hidden" scripts/emuhost own -- echo here </dev/null
	why=$(expect 3; same stdout "$work/out" '')
	grep -qE '^emuhost: (there is no /dev/kvm|/dev/kvm does not work)' "$work/err" || why+="it does not say why; "
	verdict "emuhost own, where there is no KVM" "$why"
	run unshare -m sh "$work/hidden" scripts/emuhost any -- cat /sys/module/kvm_amd/parameters/npt </dev/null
	why=$(expect 0; same stdout "$work/out" $'Y\n')
	grep -q 'in an emulated host instead' "$work/err" || why+="it does not say where; "
	verdict "emuhost any, where there is no KVM" "$why"
	run unshare -m sh "$work/no-kvm" tour paging --json tour.json </dev/null
	why=$(expect 0)
	grep -q 'emulated host' "$work/err" || why+="no word about the emulated host; "
	grep -q '^ok  *paging' "$work/out" || why+="no row of the tour; "
	grep -q strata.tour "$work/tour.json" || why+="no JSON came back"
	verdict "strata falls back to an emulated host" "$why"

	head -c 65536 /dev/zero >"$work/disk"
	run unshare -m sh "$work/no-kvm" run --disk disk --exec 'run disk fill 0 7' </dev/null
	why=$(expect 0)
	! cmp -s -n 65536 "$work/disk" /dev/zero || why+="the disk did not come back"
	run unshare -m sh "$work/no-kvm" run --disk=disk,ro --exec 'run disk verify 0 0 65536 7' </dev/null
	why+=$(expect 0)
	verdict "strata takes disks along to it, and brings back those that may be written" "$why"
else
	skip "strata falls back to an emulated host, with disks" "needs the right to make a mount namespace"
fi

if scripts/emuhost own -- true 2>/dev/null; then
	run scripts/emuhost any --with README.md -- sh -c 'cat README.md | head -n 1; exit 7' </dev/null
	why=$(expect 7; same stdout "$work/out" $'# strata\n'; same stderr "$work/err" '')
	verdict "emuhost any, where KVM works: here" "$why"
	run scripts/emuhost any --timeout 1 -- sleep 60 </dev/null
	why=$(expect 124)
	grep -q 'within 1 s' "$work/err" || why+="no word about the limit"
	verdict "emuhost any, where KVM works: a limit" "$why"
else
	skip "emuhost any, where KVM works" "not available here, because this machine's KVM does not"
fi

plan
