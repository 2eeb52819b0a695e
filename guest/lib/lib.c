#include "guest/lib/lib.h"

#include "guest/dynamic/loader.h"

#define ARGS_MAX 16

void lib_start(char *line) __attribute__((noreturn));
void lib_start(char *line)
{
    static char *argv[ARGS_MAX + 1];
    int argc = 0;

    while (argc < ARGS_MAX) {
        while (*line == ' ')
            *line++ = 0;
        if (!*line)
            break;
        argv[argc++] = line;
        while (*line && *line != ' ')
            line++;
    }
    if (loader_run)
        loader_run(argc, argv);
    exit(main(argc, argv));
}

void exit(int status)
{
    for (;;)
        syscall(SYS_EXIT, status);
}

int64_t write(const void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        int64_t n = syscall(SYS_WRITE, (const char *)buf + done, len - done);

        if (n <= 0)
            return n;
        done += (size_t)n;
    }
    return (int64_t)done;
}

int64_t read(void *buf, size_t len)
{
    return syscall(SYS_READ, buf, len);
}

int64_t fork(void)
{
    return syscall(SYS_FORK, 0);
}

int64_t exec(const char *command_line)
{
    return syscall(SYS_EXEC, command_line);
}

int64_t wait_for(int64_t pid)
{
    uint32_t status = 0;
    int64_t result = syscall(SYS_WAIT, pid, &status);

    return result < 0 ? result : status;
}

int64_t spawn(const char *command_line)
{
    int64_t pid = fork();

    if (pid == 0) {
        exec(command_line);
        exit(127);
    }
    return pid;
}

void yield(void)
{
    syscall(SYS_YIELD);
}

void *map(void *addr, size_t bytes, uint32_t prot, uint32_t flags, uint64_t object)
{
    int64_t va = syscall(SYS_MMAP, addr, bytes, prot, flags, object);

    return va < 0 ? NULL : (void *)va;
}

int unmap(void *addr, size_t bytes)
{
    return (int)syscall(SYS_MUNMAP, addr, bytes);
}

int protect(void *addr, size_t bytes, uint32_t prot)
{
    return (int)syscall(SYS_MPROTECT, addr, bytes, prot);
}

int checkpoint(enum abi_exercise exercise, uint32_t step, const uint64_t *arg, size_t nargs)
{
    return (int)syscall(SYS_CHECKPOINT, exercise, step, arg, nargs);
}

/* ---- Guarded accesses ----------------------------------------------------- */

void guarded_read(uint64_t va);
void guarded_write(uint64_t va);
void guarded_fetch(uint64_t va);
extern char guarded_end[];
extern uint64_t guarded_stack;

static struct abi_user_fault *caught;

static void on_fault(struct abi_user_fault *fault)
{
    *caught = *fault;
    fault->rip = (uint64_t)guarded_end;
    fault->rsp = guarded_stack;
    syscall(SYS_FAULT_RETURN, fault);
}

bool guarded(uint64_t va, enum abi_access access, struct abi_user_fault *fault)
{
    static void (*const call[])(uint64_t) = {
        [ABI_READ] = guarded_read, [ABI_WRITE] = guarded_write, [ABI_FETCH] = guarded_fetch
    };

    *fault = (struct abi_user_fault){ 0 };
    /* No fault has vector 0 here: nothing divides. */
    caught = fault;
    syscall(SYS_FAULT_HANDLER, on_fault);
    call[access](va);
    syscall(SYS_FAULT_HANDLER, 0);
    return fault->vector == 0;
}

/* ---- Strings and numbers -------------------------------------------------- */

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

void *memset(void *to, int byte, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;

    for (; bytes; bytes--, x++, y++) {
        if (*x != *y)
            return *x - *y;
    }
    return 0;
}

uint64_t number(const char *text, uint64_t otherwise)
{
    uint64_t value = 0;

    if (!text || *text < '0' || *text > '9')
        return otherwise;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (uint64_t)(*text++ - '0');
    return value;
}

uint64_t median(uint64_t *value, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t j = i; j > 0 && value[j] < value[j - 1]; j--) {
            uint64_t t = value[j];

            value[j] = value[j - 1];
            value[j - 1] = t;
        }
    }
    return n ? value[n / 2] : 0;
}
