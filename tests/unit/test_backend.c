/* vmm/machine/kvm: the backend, recognised in made-up /sys/module trees. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/machine/kvm.h"

static const struct {
    const char *intel, *amd; /* content of the parameter; NULL: no such module */
    bool pvm, vmx, svm;
    enum kvm_backend backend;
    const char *module, *name;
} cases[] = {
    { "Y\n", NULL, false, true, false, KVM_BACKEND_EPT, "kvm_intel", "ept" },
    { "1\n", NULL, false, true, false, KVM_BACKEND_EPT, "kvm_intel", "ept" },
    { "N\n", NULL, false, true, false, KVM_BACKEND_SHADOW, "kvm_intel", "shadow" },
    { NULL, "Y\n", false, false, true, KVM_BACKEND_NPT, "kvm_amd", "npt" },
    { NULL, "1\n", false, false, true, KVM_BACKEND_NPT, "kvm_amd", "npt" },
    { NULL, "N\n", false, false, true, KVM_BACKEND_SHADOW, "kvm_amd", "shadow" },
    { NULL, "0\n", false, false, true, KVM_BACKEND_SHADOW, "kvm_amd", "shadow" },
    /* Both vendors' modules are built in: the CPU decides. */
    { "Y\n", "N\n", false, false, true, KVM_BACKEND_SHADOW, "kvm_amd", "shadow" },
    { "N\n", "Y\n", false, false, true, KVM_BACKEND_NPT, "kvm_amd", "npt" },
    { "Y\n", "Y\n", false, true, false, KVM_BACKEND_EPT, "kvm_intel", "ept" },
    { "Y\n", "Y\n", true, false, false, KVM_BACKEND_SOFTWARE, "kvm_pvm", "software" },
    { NULL, NULL, true, false, false, KVM_BACKEND_SOFTWARE, "kvm_pvm", "software" },
    { NULL, NULL, true, true, false, KVM_BACKEND_SOFTWARE, "kvm_pvm", "software" },
    { NULL, NULL, false, false, false, KVM_BACKEND_SOFTWARE, "kvm", "software" },
    /* A parameter without content is none. */
    { "", NULL, false, true, false, KVM_BACKEND_SOFTWARE, "kvm", "software" },
};

static void make_parameter(const char *root, const char *module, const char *name,
                           const char *content)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", root, module);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/%s/parameters", root, module);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/%s/parameters/%s", root, module, name);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(content, file);
    fclose(file);
}

static void remove_tree(const char *root)
{
    static const char *const files[] = { "kvm_intel/parameters/ept",
                                         "kvm_amd/parameters/npt",
                                         "kvm_intel/parameters",
                                         "kvm_amd/parameters",
                                         "kvm_intel",
                                         "kvm_amd",
                                         "kvm_pvm" };
    char path[256];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", root, files[i]);
        remove(path);
    }
    remove(root);
}

START_TEST(test_identify)
{
    char root[] = "/tmp/strata-unit-XXXXXX", path[256];
    struct kvm_detection input = { .modules = root, .vmx = cases[_i].vmx, .svm = cases[_i].svm };
    struct kvm_host host = { .fd = -1 };

    ck_assert_ptr_nonnull(mkdtemp(root));
    if (cases[_i].intel)
        make_parameter(root, "kvm_intel", "ept", cases[_i].intel);
    if (cases[_i].amd)
        make_parameter(root, "kvm_amd", "npt", cases[_i].amd);
    snprintf(path, sizeof(path), "%s/kvm_pvm", root);
    if (cases[_i].pvm)
        ck_assert_int_eq(mkdir(path, 0755), 0);
    kvm_identify(&host, &input);
    remove_tree(root);

    ck_assert_int_eq(host.backend, cases[_i].backend);
    ck_assert_str_eq(host.module, cases[_i].module);
    ck_assert_str_eq(kvm_backend_name(host.backend), cases[_i].name);
    ck_assert_int_eq(kvm_interprets_kernel_code(&host), host.backend == KVM_BACKEND_SOFTWARE);
    ck_assert_uint_gt(strlen(host.how), 0);
}
END_TEST

Suite *backend_suite(void)
{
    Suite *suite = suite_create("backend");
    TCase *tc = tcase_create("backend");

    tcase_set_timeout(tc, 10);
    tcase_add_loop_test(tc, test_identify, 0, sizeof(cases) / sizeof(cases[0]));
    suite_add_tcase(suite, tc);
    return suite;
}
