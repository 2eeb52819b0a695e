/*
 * Lines that anybody may send to the control socket. Whatever they hold, the parser says
 * what is wrong or gives a request within its bounds, which is the same again when it is
 * written out and read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/control/inspect_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int truth)
{
    if (!truth)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct inspect_request request, again;
    char error[256] = "";
    char *line;
    int ret = inspect_request_parse((const char *)data, size, &request, error, sizeof(error));

    must(ret == 0 || (ret == -EINVAL && error[0]));
    if (ret)
        return 0;
    must(request.command < INSPECT_COMMANDS && request.pattern_bytes <= sizeof(request.pattern));
    must(memchr(request.va, 0, sizeof(request.va)) != NULL);
    must(request.count >= 1 && request.count <= INSPECT_INSTRUCTIONS_MAX);
    line = inspect_request_line(&request);
    must(line && !inspect_request_parse(line, strlen(line) - 1, &again, error, sizeof(error)));
    must(!memcmp(request.pattern, again.pattern, request.pattern_bytes) &&
         !strcmp(request.va, again.va) && request.gpa == again.gpa &&
         request.bytes == again.bytes && request.has_size == again.has_size &&
         request.offset == again.offset && request.command == again.command &&
         request.vcpu == again.vcpu && request.pid == again.pid && request.count == again.count);
    free(line);
    return 0;
}
