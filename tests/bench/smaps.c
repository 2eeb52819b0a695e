#include "tests/bench/smaps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int smaps_read(pid_t pid, struct smaps_mapping mappings[SMAPS_MAX])
{
    char path[64], line[512], range[48], name[128];
    uint64_t kb;
    int n = 0, named;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
    f = fopen(path, "r");
    if (!f)
        return -errno;
    while (fgets(line, sizeof(line), f)) {
        name[0] = 0;
        named = sscanf(line, "%47[0-9a-f-] %*4s %*s %*s %*s %127[^\n]", range, name);
        if (named >= 1 && strchr(range, '-')) {
            if (n == SMAPS_MAX)
                break;
            mappings[n] = (struct smaps_mapping){ .anonymous = !strchr(name, '/') };
            strcpy(mappings[n].range, range);
            strcpy(mappings[n].name, name);
            n++;
        } else if (n && sscanf(line, "Size: %" SCNu64, &kb) == 1) {
            mappings[n - 1].size_kb = kb;
        } else if (n && (sscanf(line, "Private_Clean: %" SCNu64, &kb) == 1 ||
                         sscanf(line, "Private_Dirty: %" SCNu64, &kb) == 1 ||
                         sscanf(line, "Private_Hugetlb: %" SCNu64, &kb) == 1)) {
            mappings[n - 1].private_kb += kb;
            if (strncmp(line, "Private_Clean", 13))
                mappings[n - 1].dirty_kb += kb;
        } else if (n && sscanf(line, "Anonymous: %" SCNu64, &kb) == 1) {
            mappings[n - 1].anonymous_kb += kb;
        }
    }
    fclose(f);
    return n;
}
