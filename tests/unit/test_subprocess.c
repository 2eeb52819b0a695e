/* vmm/base/subprocess: what a program wrote, how it ended, and that it ends. */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/unit/suites.h"
#include "vmm/base/subprocess.h"

#define PATIENCE_MS 60000

static char out_text[16 + 1], errors_text[16 + 1];
static struct subprocess_output out, errors;
static int status;

static int run_sh(const char *script, int timeout_ms)
{
    const char *const argv[] = { "sh", "-c", script, NULL };

    out = (struct subprocess_output){ .text = out_text, .max = sizeof(out_text) - 1 };
    errors = (struct subprocess_output){ .text = errors_text, .max = sizeof(errors_text) - 1 };
    return subprocess_capture(argv, &out, &errors, timeout_ms, &status);
}

START_TEST(test_captured)
{
    ck_assert_int_eq(run_sh("cat; echo said; echo wrong >&2; exit 3", PATIENCE_MS), 0);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    ck_assert_str_eq(out_text, "said\n");
    ck_assert_str_eq(errors_text, "wrong\n");
    ck_assert(!out.overflow && !errors.overflow);
}
END_TEST

/* More than there is room for: the program is not kept waiting for that. */
START_TEST(test_too_much)
{
    ck_assert_int_eq(run_sh("yes | head -c 300000; yes | head -c 300000 >&2", PATIENCE_MS), 0);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert(out.overflow && errors.overflow);
    ck_assert_uint_eq(out.bytes, out.max);
    ck_assert_uint_eq(strlen(out_text), out.max);
}
END_TEST

/* One that writes nothing more and does not end, and one that has closed its output. */
START_TEST(test_endless)
{
    ck_assert_int_eq(
        run_sh(_i ? "echo on; exec sleep 1000" : "exec >&- 2>&-; exec sleep 1000", 500),
        -ETIMEDOUT);
    ck_assert_str_eq(out_text, _i ? "on\n" : "");
    ck_assert(WIFSIGNALED(status));
}
END_TEST

START_TEST(test_none)
{
    const char *const argv[] = { "/nonexistent/program", NULL };

    out = (struct subprocess_output){ .text = out_text, .max = sizeof(out_text) - 1 };
    errors = (struct subprocess_output){ .text = errors_text, .max = sizeof(errors_text) - 1 };
    ck_assert_int_eq(subprocess_capture(argv, &out, &errors, PATIENCE_MS, &status), -ENOENT);
}
END_TEST

Suite *subprocess_suite(void)
{
    Suite *suite = suite_create("subprocess");
    TCase *tcase = tcase_create("subprocess");

    tcase_set_timeout(tcase, 70);
    tcase_add_test(tcase, test_captured);
    tcase_add_test(tcase, test_too_much);
    tcase_add_loop_test(tcase, test_endless, 0, 2);
    tcase_add_test(tcase, test_none);
    suite_add_tcase(suite, tcase);
    return suite;
}
