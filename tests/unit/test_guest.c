/* The audit of a guest's address spaces: sound tables pass, each kind of lie shows. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/inspect/guest.h"
#include "vmm/machine/memory.h"

/* A small guest: the kernel's block, two processes and their tables, in 32 frames. */
enum {
    KERNEL_FRAME = 1,
    FRAMES_FRAME,
    PROCESSES_FRAME,
    FIRST_FREE_FRAME,
    ROOT_FRAME = FIRST_FREE_FRAME, /* four table frames for each process */
    USER_FRAME = ROOT_FRAME + 8,
    SHARED_FRAME = USER_FRAME + 4,
    NFRAMES = 32,
};

#define USER_PAGES 2

static uint8_t *ram;
static struct memory memory;
static struct abi_kernel *kernel;
static struct abi_frame *frames;
static struct abi_process *processes;

static uint64_t gpa_of(unsigned frame)
{
    return frame * ABI_PAGE_BYTES;
}

static uint64_t *table(unsigned process, unsigned level_from_root)
{
    return (uint64_t *)(ram + gpa_of(ROOT_FRAME + 4 * process + level_from_root));
}

static void map_page(unsigned process, unsigned page, unsigned frame)
{
    table(process, 3)[page] = gpa_of(frame) | PAGING_P | PAGING_W | PAGING_U | PAGING_NX;
    frames[frame].kind = ABI_FRAME_USER;
    frames[frame].refs++;
}

static void setup(void)
{
    ram = aligned_alloc(ABI_PAGE_BYTES, gpa_of(NFRAMES));
    ck_assert_ptr_nonnull(ram);
    memset(ram, 0, gpa_of(NFRAMES));
    memory = (struct memory){ .vm_fd = -1, .bytes = gpa_of(NFRAMES), .nslots = 1 };
    memory.slots[0] = (struct memory_slot){ .bytes = gpa_of(NFRAMES), .hva = ram };
    kernel = (struct abi_kernel *)(ram + gpa_of(KERNEL_FRAME));
    frames = (struct abi_frame *)(ram + gpa_of(FRAMES_FRAME));
    processes = (struct abi_process *)(ram + gpa_of(PROCESSES_FRAME));
    *kernel = (struct abi_kernel){
        .magic = ABI_KERNEL_MAGIC,
        .version = ABI_KERNEL_VERSION,
        .frames = gpa_of(FRAMES_FRAME),
        .nframes = NFRAMES,
        .first_frame = FIRST_FREE_FRAME,
        .processes = gpa_of(PROCESSES_FRAME),
        .nprocesses = 2,
        .process_stride = sizeof(struct abi_process),
    };
    for (unsigned i = 0; i < 2; i++) {
        processes[i].pid = i + 1;
        processes[i].state = ABI_PROCESS_RUNNABLE;
        processes[i].root = gpa_of(ROOT_FRAME + 4 * i);
        for (unsigned level = 0; level < 4; level++)
            frames[ROOT_FRAME + 4 * i + level] = (struct abi_frame){ .refs = 1,
                                                                     .kind = ABI_FRAME_TABLE };
        for (unsigned level = 0; level < 3; level++)
            table(i, level)[0] = gpa_of(ROOT_FRAME + 4 * i + level + 1) | PAGING_P | PAGING_W |
                                 PAGING_U;
        for (unsigned page = 0; page < USER_PAGES; page++)
            map_page(i, page, USER_FRAME + USER_PAGES * i + page);
        map_page(i, USER_PAGES, SHARED_FRAME);
    }
}

static void teardown(void)
{
    free(ram);
}

static struct guest_audit audit(void)
{
    struct guest_view view;
    struct guest_audit result;

    ck_assert_int_eq(guest_view_open(&view, &memory, gpa_of(KERNEL_FRAME)), 0);
    ck_assert_int_eq(guest_audit(&view, &result), 0);
    return result;
}

START_TEST(sound)
{
    struct guest_audit a = audit();

    ck_assert_uint_eq(a.address_spaces, 2);
    ck_assert_uint_eq(a.user_frames, 2 * USER_PAGES + 1);
    ck_assert_uint_eq(a.claimed_frames, a.user_frames);
    ck_assert_uint_eq(a.tables, 8);
    ck_assert_uint_eq(a.claimed_tables, 8);
    ck_assert_uint_eq(a.unexplained + a.missing + a.kernel_open + a.kernel_wx + a.broken, 0);
}
END_TEST

START_TEST(lost_frame)
{
    table(0, 3)[0] = 0;
    ck_assert_uint_eq(audit().unexplained, 1);
}
END_TEST

START_TEST(uncounted_mapping)
{
    table(0, 3)[5] = gpa_of(SHARED_FRAME) | PAGING_P | PAGING_U;
    ck_assert_uint_eq(audit().missing, 1);
}
END_TEST

START_TEST(mapped_free_frame)
{
    table(0, 3)[5] = gpa_of(NFRAMES - 1) | PAGING_P | PAGING_U;
    ck_assert_uint_eq(audit().missing, 1);
}
END_TEST

START_TEST(mapped_outside_memory)
{
    table(0, 3)[5] = gpa_of(NFRAMES + 7) | PAGING_P | PAGING_U;
    ck_assert_uint_eq(audit().missing, 1);
}
END_TEST

START_TEST(lost_table)
{
    frames[NFRAMES - 1].kind = ABI_FRAME_TABLE;
    ck_assert_uint_ne(audit().claimed_tables, audit().tables);
}
END_TEST

START_TEST(open_kernel)
{
    /* The whole path lets users through, and nothing is NX. */
    table(0, 0)[511] = gpa_of(ROOT_FRAME + 1) | PAGING_P | PAGING_W | PAGING_U;
    table(0, 3)[0] &= ~PAGING_NX;
    ck_assert_uint_eq(audit().kernel_open, USER_PAGES + 1);
    ck_assert_uint_eq(audit().kernel_wx, 1);
}
END_TEST

START_TEST(broken_entry)
{
    table(1, 1)[3] = gpa_of(NFRAMES + 100) | PAGING_P;
    ck_assert_uint_eq(audit().broken, 1);
}
END_TEST

START_TEST(read_across_pages)
{
    struct guest_view view;
    char text[16];

    ck_assert_int_eq(guest_view_open(&view, &memory, gpa_of(KERNEL_FRAME)), 0);
    memcpy(ram + gpa_of(USER_FRAME) + ABI_PAGE_BYTES - 4, "left", 4);
    memcpy(ram + gpa_of(USER_FRAME + 1), "right", 6);
    ck_assert_int_eq(guest_read(&view, processes[0].root, ABI_PAGE_BYTES - 4, text, 10), 0);
    ck_assert_str_eq(text, "leftright");
    ck_assert_int_eq(guest_read(&view, processes[0].root, 3 * ABI_PAGE_BYTES - 4, text, 10),
                     -EFAULT);
}
END_TEST

/* What a guest may claim about its tables, and must not be believed. */
static const struct {
    const char *what;
    size_t offset; /* of a 64-bit field of struct abi_kernel */
    uint64_t value;
} lies[] = {
    { "magic", offsetof(struct abi_kernel, magic), 1 },
    { "frame table outside memory", offsetof(struct abi_kernel, frames), 1ull << 40 },
    { "frame table misaligned", offsetof(struct abi_kernel, frames), 4097 },
    { "too many frames", offsetof(struct abi_kernel, nframes), NFRAMES * 4096 },
    { "frames that wrap around", offsetof(struct abi_kernel, nframes), UINT64_MAX / 8 + 2 },
    { "processes outside memory", offsetof(struct abi_kernel, processes), ~7ull },
    { "processes misaligned", offsetof(struct abi_kernel, processes), 4 },
};

START_TEST(lie)
{
    struct guest_view view;

    memcpy((char *)kernel + lies[_i].offset, &lies[_i].value, sizeof(uint64_t));
    ck_assert_msg(guest_view_open(&view, &memory, gpa_of(KERNEL_FRAME)) == -EINVAL, "%s",
                  lies[_i].what);
}
END_TEST

START_TEST(lie_about_processes)
{
    struct guest_view view;

    kernel->process_stride = 8;
    ck_assert_int_eq(guest_view_open(&view, &memory, gpa_of(KERNEL_FRAME)), -EINVAL);
    kernel->process_stride = 1 << 20;
    ck_assert_int_eq(guest_view_open(&view, &memory, gpa_of(KERNEL_FRAME)), -EINVAL);
}
END_TEST

START_TEST(record)
{
    struct abi_checkpoint *there = (struct abi_checkpoint *)ram, copy;

    ck_assert_int_eq(guest_checkpoint(&memory, 0, &copy), -EINVAL);
    there->magic = ABI_CHECKPOINT_MAGIC;
    ck_assert_int_eq(guest_checkpoint(&memory, 0, &copy), 0);
    there->nargs = ABI_CHECKPOINT_ARGS + 1;
    ck_assert_int_eq(guest_checkpoint(&memory, 0, &copy), -EINVAL);
    ck_assert_int_eq(guest_checkpoint(&memory, NFRAMES, &copy), -EINVAL);
    ck_assert_int_eq(guest_checkpoint(&memory, UINT32_MAX, &copy), -EINVAL);
}
END_TEST

Suite *guest_suite(void)
{
    Suite *suite = suite_create("guest");
    TCase *tcase = tcase_create("audit");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, sound);
    tcase_add_test(tcase, lost_frame);
    tcase_add_test(tcase, uncounted_mapping);
    tcase_add_test(tcase, mapped_free_frame);
    tcase_add_test(tcase, mapped_outside_memory);
    tcase_add_test(tcase, lost_table);
    tcase_add_test(tcase, open_kernel);
    tcase_add_test(tcase, broken_entry);
    tcase_add_test(tcase, read_across_pages);
    tcase_add_loop_test(tcase, lie, 0, sizeof(lies) / sizeof(lies[0]));
    tcase_add_test(tcase, lie_about_processes);
    tcase_add_test(tcase, record);
    suite_add_tcase(suite, tcase);
    return suite;
}
