/*
 * What is made ready beside the way from exec to the first guest instruction: the VM
 * itself where vm_create has something else to do meanwhile, the CPUID table (0.3 ms to fetch where
 * CPUID traps), the boot CPU's copy of it, and the other vCPUs. Its thread is then the one beside
 * the boot CPU's in vm_run. On a host with a single CPU it is made ready where it is waited for,
 * and the thread comes with vm_setup_release. For the files of this folder.
 */
#ifndef STRATA_MACHINE_VM_SETUP_H
#define STRATA_MACHINE_VM_SETUP_H

struct vm;

/* How far vm_create has come. */
enum vm_stage {
    VM_STAGE_BEGUN,
    VM_STAGE_MACHINE,  /* memory and interrupt chip: vCPUs can be created */
    VM_STAGE_BOOT_CPU, /* the boot CPU exists */
    VM_STAGE_RELEASED, /* vm_setup_release */
    VM_STAGE_FAILED,
};

/* Starts it, as soon as the VM's lock and vCPU array exist. 0 or -errno. */
int vm_setup_start(struct vm *vm);

/* For VM parameters with `prepare`: waits for the VM's file descriptor, or -errno. Once. */
int vm_setup_take_vm(struct vm *vm);

/* Says how far vm_create has come. */
void vm_setup_reached(struct vm *vm, enum vm_stage stage);

/*
 * Waits until it is done: if this is 0, the table is there and every vCPU exists. Again:
 * the same.
 */
int vm_setup_finish(struct vm *vm);

/*
 * What its thread does next: run this, or (NULL) end. Once, after vm_setup_finish. 0, or
 * -errno where there is no thread for it.
 */
int vm_setup_release(struct vm *vm, void (*beside)(void *arg), void *arg);

/* Waits for the end of its thread. */
void vm_setup_join(struct vm *vm);

/* Ends it, whatever it is about: vm_create failed, or the VM goes. */
void vm_setup_destroy(struct vm *vm);

#endif
