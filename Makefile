# strata: `make` builds build/strata, the bundled guest inside it.
# Other goals: unit asan tsan fuzz faults fault-list slow-faults stale-tlb bench lint clean.
# scripts/check runs all tests.

# One seeded bug of devices/iommu/checks.h: `make FAULT_INJECT=stale-iotlb`. Only the
# IOMMU is compiled anew for it, into build/fault/NAME; all else comes from build/.
FAULT_INJECT ?=
B        ?= $(if $(FAULT_INJECT),build/fault/$(FAULT_INJECT),build)
REST     := $(if $(FAULT_INJECT),build,$B)
CC       ?= gcc
CLANG    ?= clang-14
WARN     := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Werror
SANITIZE ?=
# Static and not position-independent: nothing to relocate or map at start, which
# is a third of the time from exec to the first guest instruction.
LINK     ?= -static -no-pie
CFLAGS   ?= -O2 -g
ALL_CFLAGS = -std=gnu11 -I. -fno-pie -pthread -D_GNU_SOURCE $(WARN) $(CFLAGS) $(SANITIZE) -MMD -MP
LIBS     := -lfdt -lcapstone -ljansson -luring -lm

# strata-net, the user network's helper, is a program of its own (vmm/usernet).
USERNET   := $(patsubst %.c,$(REST)/obj/%.o,$(sort $(wildcard vmm/usernet/*.c)))
# Orders of guest/measure are carried out in the guest and here.
SRCS      := $(filter-out vmm/usernet/%,$(sort $(wildcard vmm/*/*.c vmm/*/*/*.c devices/*/*.c guest/measure/*.c)))
OBJS      := $(patsubst %.c,$B/obj/%.o,$(filter devices/iommu/%,$(SRCS))) \
    $(patsubst %.c,$(REST)/obj/%.o,$(filter-out devices/iommu/%,$(SRCS)) vmm/boot/bundled.c vmm/report/page.c)
CORE      := $(filter-out $(REST)/obj/vmm/cli/main.o,$(OBJS))
# What stands for itself, without a VM.
IOMMU     := $(filter-out %/dma_request.o,$(filter $B/obj/devices/iommu/%,$(OBJS))) \
    $(REST)/obj/vmm/machine/memory.o
# Devices and what they need of a VM.
DEVICES   := $(filter $B/obj/devices/% $(REST)/obj/devices/% $(REST)/obj/vmm/machine/%,$(OBJS))
# All of inspection but the disassembler.
INSPECT   := $(filter-out %/disasm.o %/cpu.o,$(filter $(REST)/obj/vmm/inspect/%,$(OBJS))) \
    $(REST)/obj/vmm/machine/paging.o $(REST)/obj/vmm/machine/guest_memory.o
UNIT_OBJS := $(patsubst %.c,$(REST)/obj/%.o,$(sort $(wildcard tests/unit/*.c)))
FUZZERS   := $(patsubst tests/fuzz/%.c,$B/fuzz/%,$(wildcard tests/fuzz/*.c))
# strata beside other VMMs (scripts/bench-peers).
PEERS     := $(addprefix $B/obj/tests/bench/,peers_main.o peers.o peers_report.o harness.o smaps.o)
BENCH_OBJS := $(patsubst %.c,$B/obj/%.o,$(filter-out %/floor.c %/iommu_main.c tests/bench/peers%,$(sort $(wildcard tests/bench/*.c))))
BENCHES   := $(addprefix $B/bench/,bench peers floor guest_first.elf guest_exits.elf)
# The one program with GLib in it; strata does without.
GLIB      := $(shell pkg-config --cflags glib-2.0 2>/dev/null)
BENCHES   += $(if $(GLIB),$B/bench/iommu)
# Guests of other boot protocols than PVH.
LOADED    := multiboot.elf multiboot32.elf multiboot.bin bzimage.bin flat16.bin flat32.bin flat64.bin
GUESTS    := $(patsubst tests/guests/%.S,$B/tests/%.elf,$(filter-out %/multiboot.S %/flat.S \
    %/bzimage.S,$(sort $(wildcard tests/guests/*.S)))) $(addprefix $B/tests/,$(LOADED)) \
    $(addprefix $B/tests/with-,peer signals socket terminal)

all: $B/strata $(REST)/strata-net $(if $(FAULT_INJECT),,$(BENCHES) $(GUESTS))

$B/strata: $(OBJS) vmm/start.ld
	$(CC) $(SANITIZE) $(LINK) -Wl,-T,vmm/start.ld -pthread -o $@ $(OBJS) $(LIBS)

# With the libraries of libslirp, which strata itself does without: dynamically linked.
$(REST)/strata-net: $(USERNET)
	$(CC) $(SANITIZE) -no-pie -o $@ $^ -lslirp

$B/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<
ifneq ($(FAULT_INJECT),)
$B/obj/devices/iommu/%.o: ALL_CFLAGS += -DFAULT_INJECT=FAULT_$(shell echo $(FAULT_INJECT) | tr a-z- A-Z_)
$(REST)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<
endif
FAULTS := $(shell sed -nE 's/^ +FAULT_[A-Z_]+ =.*, +\/\/ ([a-z-]+):.*/\1/p' devices/iommu/checks.h)
fault-list:
	@printf '%s\n' $(FAULTS)
# strata and the unit tests with each of them.
faults: $(addprefix fault-,$(FAULTS))
$(addprefix fault-,$(FAULTS)): fault-%: all unit
	$(MAKE) FAULT_INJECT=$* build/fault/$*/strata build/fault/$*/unit

# Files that strata carries with it. The guest is built once, whatever the host side is built with.
$(REST)/obj/vmm/boot/bundled.o: build/guest/kernel.elf
$(REST)/obj/vmm/report/page.o: $(addprefix vmm/report/,page.css page.js)
$(REST)/obj/vmm/boot/bundled.o $(REST)/obj/vmm/report/page.o: $(REST)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(CC) -c -o $@ $<

include guest/guest.mk

unit: $B/unit
$B/unit: $(UNIT_OBJS) $(CORE) $(addprefix $(REST)/obj/tests/bench/,peers.o harness.o)
	$(CC) $(SANITIZE) $(LINK) -pthread -o $@ $^ -lcheck -lsubunit -lrt $(LIBS)

asan:
	$(MAKE) B=build/asan LINK=-no-pie CFLAGS='-O1 -g -fno-omit-frame-pointer' \
	    SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' build/asan/unit build/asan/strata \
	    build/asan/strata-net

# Access against revocation (tests/tsan), and the same with bugs that it must notice.
# It knows no fences, which is no matter to what these programs look at.
TSAN := LINK=-no-pie CFLAGS='-O1 -g -Wno-tsan' SANITIZE=-fsanitize=thread REST=build/tsan
tsan:
	$(MAKE) B=build/tsan $(TSAN) $(addprefix build/tsan/,revoke net vsock console io_thread)
	for bug in no-drain stale-iotlb keep-after-detach; do $(MAKE) FAULT_INJECT=$$bug \
	    B=build/tsan/$$bug $(TSAN) build/tsan/$$bug/revoke || exit; done
	$(MAKE) FAULT_INJECT=stale-iotlb B=build/tsan/stale-iotlb $(TSAN) build/tsan/stale-iotlb/net
$B/revoke: $(REST)/obj/tests/tsan/revoke.o $(IOMMU)
	$(CC) $(SANITIZE) $(LINK) -pthread -o $@ $^
# The I/O thread's brings the place of KVM with it.
$B/io_thread: $(REST)/obj/tests/tsan/io_thread.o $(filter-out %/ioeventfd.o,$(DEVICES))
	$(CC) $(SANITIZE) $(LINK) -pthread -o $@ $^ -luring
$B/net $B/vsock $B/console: $B/%: $(REST)/obj/tests/tsan/%.o $(DEVICES)
	$(CC) $(SANITIZE) $(LINK) -pthread -o $@ $^ -luring

fuzz:
	$(MAKE) B=build/fuzz-obj CC=$(CLANG) CFLAGS='-O1 -g' \
	    SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all' \
	    FUZZ_TO=build/fuzz build/fuzz-obj/fuzzers
$B/fuzzers: $(FUZZERS)
$B/fuzz/%: $B/obj/tests/fuzz/%.o $(CORE)
	@mkdir -p $(@D) build/fuzz
	$(CC) $(SANITIZE) -fsanitize=fuzzer -no-pie -pthread -o $@ $^ $(LIBS)
	ln -sf ../fuzz-obj/fuzz/$* build/fuzz/$*

$B/bench/bench: $(BENCH_OBJS) $(INSPECT) $(IOMMU)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) $(LINK) -pthread -o $@ $^
$B/bench/peers: $(PEERS)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) $(LINK) -pthread -o $@ $^ -ljansson
$B/obj/tests/bench/iommu_main.o: ALL_CFLAGS += $(GLIB)
$B/bench/iommu: $B/obj/tests/bench/iommu_main.o $(IOMMU)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -no-pie -pthread -o $@ $^ $(shell pkg-config --libs glib-2.0 2>/dev/null)
$B/bench/floor: $B/obj/tests/bench/floor.o $B/obj/tests/bench/guest_first.o $B/obj/tests/bench/guest_exits.o
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) $(LINK) -o $@ $^

# Guests in assembler, as PVH kernels: of the bench, and of tests/guests/run.sh.
$B/obj/%.o: %.S
	@mkdir -p $(@D)
	$(CC) -I. -MMD -MP -c -o $@ $<
$B/bench/%.elf: $B/obj/tests/bench/%.o tests/guests/pvh.ld
	@mkdir -p $(@D)
	ld -static -nostdlib --no-warn-rwx-segments -T tests/guests/pvh.ld -o $@ $<
$B/tests/with-%: $B/obj/tests/guests/with-%.o
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) $(LINK) -o $@ $<
$B/tests/%.elf: $B/obj/tests/guests/%.o tests/guests/pvh.ld
	@mkdir -p $(@D)
	ld -static -nostdlib --no-warn-rwx-segments -T tests/guests/pvh.ld -o $@ $(filter %.o,$^)

$B/tests/multiboot.elf: $B/obj/tests/guests/multiboot.o tests/guests/multiboot.ld
	@mkdir -p $(@D)
	ld -static -nostdlib --no-warn-rwx-segments -T tests/guests/multiboot.ld -o $@ $<
$B/tests/multiboot32.elf: $B/tests/multiboot.elf
	objcopy -O elf32-i386 $< $@
$B/obj/tests/guests/multiboot-fields.o: tests/guests/multiboot.S
	@mkdir -p $(@D)
	$(CC) -I. -DFIELDS -MMD -MP -c -o $@ $<
$B/tests/multiboot.bin: $B/obj/tests/guests/multiboot-fields.o tests/guests/multiboot.ld
	ld -static -nostdlib --oformat binary -T tests/guests/multiboot.ld -o $@ $<
$B/tests/bzimage.bin: $B/obj/tests/guests/bzimage.o tests/guests/bzimage.ld
	ld -static -nostdlib -T tests/guests/bzimage.ld -o $@ $<
$(patsubst %,$B/obj/tests/guests/flat%.o,16 32 64): $B/obj/tests/guests/flat%.o: tests/guests/flat.S
	@mkdir -p $(@D)
	$(CC) -I. -DBITS=$* -MMD -MP -c -o $@ $<
$B/tests/flat%.bin: $B/obj/tests/guests/flat%.o
	ld -static -nostdlib --oformat binary -e flat_start -Ttext=0x7c00 -o $@ $<

# One has a part in C, with the flags of the bundled guest's kernel.
$B/tests/windows.elf: $B/obj/tests/guests/windows_fuzz.o
$B/obj/tests/guests/windows_fuzz.o: tests/guests/windows_fuzz.c
	@mkdir -p $(@D)
	gcc $(filter-out -mcmodel=kernel,$(KERNEL_CFLAGS)) -c -o $@ $<

bench: all
	./scripts/bench

lint:
	./scripts/lint

clean:
	rm -rf build

.PHONY: all unit fault-list faults $(addprefix fault-,$(FAULTS)) asan tsan fuzz bench lint clean $B/fuzzers
.SECONDARY:
-include $(shell find $B $(REST) -name '*.d' 2>/dev/null)
