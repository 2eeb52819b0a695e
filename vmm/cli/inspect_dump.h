/*
 * strata inspect dump: guest-physical memory into a file, piece by piece.
 */
#ifndef STRATA_CLI_INSPECT_DUMP_H
#define STRATA_CLI_INSPECT_DUMP_H

#include "vmm/control/inspect_client.h"
#include "vmm/control/inspect_request.h"

struct output_file;

/*
 * Asks the VM at `socket` for what the request (INSPECT_DUMP, its offset 0) names, writes it to
 * `path` ("-": standard output), and tells on standard output, or else on standard error, how
 * many pieces it were. A file that was not there before is there at the end only if it is
 * whole. 0; or -errno and one line: that of inspect_look for the first piece, then -EIO.
 */
int inspect_dump(const char *socket, const struct inspect_request *request, const char *path,
                 struct output_file *json, char error[CLIENT_ERROR_BYTES]);

#endif
