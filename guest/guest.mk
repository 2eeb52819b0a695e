# The bundled guest: a kernel with its user programs inside.
G := build/guest

# Kernel code may be interpreted by the host, which knows only the plain instruction set.
GUEST_CFLAGS  := -std=gnu11 -O2 -g -I. -ffreestanding -fno-pic -fno-pie -fno-stack-protector \
    -fno-asynchronous-unwind-tables -fcf-protection=none -march=x86-64 -MMD -MP $(WARN)
KERNEL_CFLAGS := $(GUEST_CFLAGS) -mgeneral-regs-only -mno-red-zone -mcmodel=kernel \
    -fno-jump-tables -fno-omit-frame-pointer
USER_CFLAGS   := $(GUEST_CFLAGS)

KERNEL_SRCS := $(sort $(wildcard guest/kernel/*.c guest/kernel/*/*.c guest/kernel/*/*.S))
KERNEL_OBJS := $(patsubst guest/%,$G/%.o,$(KERNEL_SRCS))
LIB_OBJS    := $(patsubst guest/%,$G/%.o,$(sort $(wildcard guest/lib/*.c guest/lib/*.S)))
PROGRAMS    := $(patsubst guest/user/%.c,$G/user/%,$(sort $(wildcard guest/user/*.c)))
# Programs that a shared library is loaded into at run time, and that library.
LIBRARY     := $G/user/libfigures.so
DYNAMIC     := $(patsubst guest/dynamic/%.c,$G/user/%,$(sort $(wildcard guest/dynamic/*-*.c)))
LINK_WITH   = $(LIBRARY)
BUNDLED     := $(PROGRAMS) $(DYNAMIC) $(LIBRARY)

$G/kernel/%.o: guest/kernel/%
	@mkdir -p $(@D)
	gcc $(KERNEL_CFLAGS) -c -o $@ $<
$G/lib/%.o: guest/lib/%
	@mkdir -p $(@D)
	gcc $(USER_CFLAGS) -c -o $@ $<
$G/user/%.c.o: guest/user/%.c
	@mkdir -p $(@D)
	gcc $(USER_CFLAGS) -c -o $@ $<
$G/user/%: $G/user/%.c.o $(LIB_OBJS) guest/user/user.ld
	ld -static -nostdlib -z noexecstack -T guest/user/user.ld -o $@ $(filter %.o,$^)

# What the measuring program does, which the host does too.
$G/measure/%.o: guest/measure/%
	@mkdir -p $(@D)
	gcc $(USER_CFLAGS) -c -o $@ $<
$G/user/measure: $(patsubst guest/%,$G/%.o,$(sort $(wildcard guest/measure/*.c)))

$G/dynamic/figures-%.c.o $G/dynamic/member.c.o $G/figures/%.c.o: USER_CFLAGS += -fPIC
$G/dynamic/%.c.o: guest/dynamic/%.c
	@mkdir -p $(@D)
	gcc $(USER_CFLAGS) -c -o $@ $<
$G/figures/%.c.o: guest/figures/%.c
	@mkdir -p $(@D)
	gcc $(USER_CFLAGS) -c -o $@ $<
$(LIBRARY): $G/figures/figures.c.o guest/figures/library.ld
	@mkdir -p $(@D)
	ld -shared -nostdlib -z now -z relro -z noexecstack -z max-page-size=4096 --hash-style=sysv \
	    -soname $(@F) -T guest/figures/library.ld -o $@ $<
$(DYNAMIC): $G/user/%: $G/dynamic/%.c.o $G/dynamic/loader.c.o $(LIB_OBJS) $(LIBRARY) guest/dynamic/program.ld
	ld -nostdlib -z now -z noexecstack --no-dynamic-linker --hash-style=sysv \
	    -T guest/dynamic/program.ld -o $@ $(filter %.o,$^) $(LINK_WITH)

# These go through an exercise together; the others show what the loader refuses.
$(filter $G/user/figures-%,$(DYNAMIC)): $G/dynamic/member.c.o
# As if built for a newer version of the library, which has more than the one bundled.
$G/user/link-missing: LINK_WITH = $G/newer/libfigures.so
$G/user/link-missing: $G/newer/libfigures.so
$G/newer/libfigures.so:
	@mkdir -p $(@D)
	echo 'void figures_missing(void) {}' | \
	    gcc -shared -nostdlib -fPIC -Wl,-soname,$(@F) -x c -o $@ -

# The programs and the library, stripped and page-aligned, with tables of their names.
$G/programs.S: $(BUNDLED) guest/programs.sh
	sh guest/programs.sh $(BUNDLED) >$@
$G/programs.o: $G/programs.S
	gcc -c -o $@ $<

# Two passes: the first kernel's symbols become the table that the second one's
# backtraces use. The table comes last, so that it moves nothing.
KLINK = ld -static -nostdlib -z noexecstack -z max-page-size=4096 --no-warn-rwx-segments -T guest/kernel/arch/kernel.ld
define link_kernel
	sh guest/symbols.sh </dev/null >$(@D)/symbols.S && gcc -c -o $(@D)/symbols.o $(@D)/symbols.S
	$(KLINK) -o $(@D)/kernel.1 $(filter %.o,$^) $(@D)/symbols.o
	nm -n $(@D)/kernel.1 | sh guest/symbols.sh >$(@D)/symbols.S && gcc -c -o $(@D)/symbols.o $(@D)/symbols.S
	$(KLINK) -o $@.tmp $(filter %.o,$^) $(@D)/symbols.o
	mv $@.tmp $@
endef
$G/kernel.elf: $(KERNEL_OBJS) $G/programs.o guest/kernel/arch/kernel.ld guest/symbols.sh
	$(link_kernel)

# Stratas whose guests have a fault, which tests must notice: it takes 2 ms longer for each page
# fault; a CPU may keep in its TLB what another one has taken away.
define seeded
$1: build/fault/$1/strata
build/fault/$1/$2.o: guest/kernel/$2.c
	@mkdir -p $$(@D)
	gcc $$(KERNEL_CFLAGS) -D$3 -c -o $$@ $$<
build/fault/$1/kernel.elf: $$(filter-out %/$2.c.o,$$(KERNEL_OBJS)) build/fault/$1/$2.o $G/programs.o \
    guest/kernel/arch/kernel.ld guest/symbols.sh
	$$(link_kernel)
build/fault/$1/bundled.o: vmm/boot/bundled.S build/fault/$1/kernel.elf
	$$(CC) -DBUNDLED_KERNEL='"build/fault/$1/kernel.elf"' -c -o $$@ $$<
build/fault/$1/strata: $$(filter-out %/bundled.o,$$(OBJS)) build/fault/$1/bundled.o
	$$(CC) $$(SANITIZE) $$(LINK) -pthread -o $$@ $$^ $$(LIBS)
.PHONY: $1
endef
$(eval $(call seeded,slow-faults,mm/space,FAULT_DELAY_NS=2000000))
$(eval $(call seeded,stale-tlb,arch/smp,FAULT_STALE_TLB))
