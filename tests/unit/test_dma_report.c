/* vmm/report/dma_*: what is told of a result, in each of the four forms. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/report/dma_html.h"
#include "vmm/report/dma_json.h"
#include "vmm/report/dma_text.h"

#define COLUMNS 100

static struct policy policy;
static struct harness_result result;
static struct dma_report report;
static char *text;
static size_t bytes;
static FILE *out;

/* A result as the test harness would have it: `ndevices` devices, all attacks, two targets each. */
static void make(unsigned ndevices)
{
    memset(&policy, 0, sizeof(policy));
    strcpy(policy.name, "made-up");
    strcpy(policy.description, "one <b> of everything");
    policy.guest.ndevices = ndevices;
    for (unsigned d = 0; d < ndevices; d++) {
        snprintf(policy.guest.device[d].name, ABI_POLICY_NAME_BYTES, "a-rather-long-name-%u",
                 d % 10);
        policy.guest.device[d].kind = ABI_DEVICE_PROBE;
    }
    result = (struct harness_result){ .policy = &policy, .seed = 42, .guest_lives = true };
    result.cells = calloc((size_t)ndevices * ATTACK_COUNT * 2, sizeof(*result.cells));
    for (unsigned i = 0; i < ndevices * ATTACK_COUNT * 2; i++) {
        struct matrix_cell *cell = &result.cells[result.ncells++];

        cell->device = i / 2 / ATTACK_COUNT;
        cell->attack = i / 2 % ATTACK_COUNT;
        strcpy(cell->region, i % 2 ? "keys" : "net-rx");
        strcpy(cell->because, "nothing maps it");
        cell->expected.applies = cell->observed.applies = true;
        cell->ok = true;
        cell->checks = 2;
    }
    report = (struct dma_report){ .result = &result, .path = "made-up.dts", .backend = "npt" };
}

static struct matrix_cell *cell_of(unsigned device, unsigned attack, unsigned target)
{
    return &result.cells[(device * ATTACK_COUNT + attack) * 2 + target];
}

static void open_cell(struct matrix_cell *cell)
{
    cell->expected.succeeds = cell->observed.succeeds = true;
    cell->expected.read_bytes = cell->observed.read_bytes = 16384;
    strcpy(cell->because, "the policy is weak");
}

static void break_cell(struct matrix_cell *cell)
{
    cell->observed.succeeds = !cell->expected.succeeds;
    cell->observed.write_bytes = 4096;
    cell->ok = false;
    cell->failed = 1;
    strcpy(cell->failure, "canary: expected unwritten & whole, observed written");
    result.differing++;
}

static void setup(void)
{
    make(3);
    out = open_memstream(&text, &bytes);
}

static void teardown(void)
{
    free(text);
    free(result.cells);
}

static const char *told(void)
{
    fclose(out);
    return text;
}

static void expect_columns(void)
{
    for (const char *line = told(); *line; line += strcspn(line, "\n"), line += *line != 0) {
        size_t length = strcspn(line, "\n");

        ck_assert_msg(length <= COLUMNS, "%zu columns: %.*s", length, (int)length, line);
        ck_assert_msg(!length || line[length - 1] != ' ', "ends in a space: %.*s", (int)length,
                      line);
    }
}

START_TEST(test_matrix_cell)
{
    struct dma_matrix_cell matrix_cell;

    dma_matrix_cell(&result, 1, 3, &matrix_cell);
    ck_assert_int_eq(matrix_cell.observed, DMA_STOPPED);
    ck_assert_int_eq(matrix_cell.expected, DMA_STOPPED);
    ck_assert_uint_eq(matrix_cell.cells, 2);
    ck_assert(matrix_cell.ok);
    open_cell(cell_of(1, 3, 1));
    dma_matrix_cell(&result, 1, 3, &matrix_cell);
    ck_assert_int_eq(matrix_cell.observed, DMA_PARTLY);
    ck_assert_int_eq(matrix_cell.expected, DMA_PARTLY);
    ck_assert_uint_eq(matrix_cell.read_bytes, 16384);
    ck_assert_str_eq(matrix_cell.because, "the policy is weak");
    open_cell(cell_of(1, 3, 0));
    dma_matrix_cell(&result, 1, 3, &matrix_cell);
    ck_assert_int_eq(matrix_cell.observed, DMA_OPEN);
    break_cell(cell_of(1, 3, 0));
    dma_matrix_cell(&result, 1, 3, &matrix_cell);
    ck_assert_int_eq(matrix_cell.expected, DMA_OPEN);
    ck_assert_int_eq(matrix_cell.observed, DMA_PARTLY);
    ck_assert(!matrix_cell.ok);
    for (unsigned target = 0; target < 2; target++)
        cell_of(0, 0, target)->expected.applies = cell_of(0, 0, target)->observed.applies = false;
    dma_matrix_cell(&result, 0, 0, &matrix_cell);
    ck_assert_int_eq(matrix_cell.observed, DMA_NONE);
    /* Its neighbours are not concerned. */
    dma_matrix_cell(&result, 1, 2, &matrix_cell);
    ck_assert_int_eq(matrix_cell.observed, DMA_STOPPED);
    dma_matrix_cell(&result, 2, 3, &matrix_cell);
    ck_assert_int_eq(matrix_cell.observed, DMA_STOPPED);
}
END_TEST

START_TEST(test_text)
{
    open_cell(cell_of(2, 5, 0));
    break_cell(cell_of(0, 1, 1));
    dma_text_print(out, &report, false);
    told();
    for (unsigned i = 0; i < ATTACK_COUNT; i++)
        ck_assert_ptr_nonnull(strstr(text, attack_table[i]->name));
    ck_assert_ptr_nonnull(strstr(text, "seed 42"));
    ck_assert_ptr_nonnull(strstr(text, "stop part"));
    ck_assert_ptr_nonnull(strstr(text, "part part"));
    ck_assert_ptr_nonnull(strstr(text, "16 KiB read, 0 B written"));
    ck_assert_ptr_nonnull(strstr(text, "the policy is weak"));
    ck_assert_ptr_nonnull(strstr(text, "DIFFERS a-rather-long-name-0"));
    ck_assert_ptr_nonnull(strstr(text, "1 of 2 checks failed; the first: canary"));
    ck_assert_ptr_nonnull(strstr(text, "FAILED: 1 of 132 cells differ"));
    ck_assert_ptr_null(strchr(text, '\033'));
}
END_TEST

START_TEST(test_ok)
{
    dma_text_print(out, &report, true);
    told();
    ck_assert_ptr_nonnull(strstr(text, "132 cells are as the policy promises"));
    ck_assert_ptr_null(strstr(text, "FAILED"));
    ck_assert_ptr_null(strstr(text, "DIFFERS"));
    ck_assert_ptr_nonnull(strstr(text, "with all buffers mapped, at most 16 KiB of a region"));
    ck_assert_ptr_nonnull(strchr(text, '\033'));
}
END_TEST

START_TEST(test_dead_guest)
{
    result.guest_lives = false;
    strcpy(result.guest_failure, "it panicked");
    /* From the second attack on, nothing was tried. */
    for (unsigned i = 0; i < result.ncells; i++) {
        if (result.cells[i].attack) {
            result.cells[i].observed.applies = result.cells[i].ok = false;
            result.differing++;
        }
    }
    dma_text_print(out, &report, false);
    told();
    ck_assert_ptr_nonnull(strstr(text, "the test could not go on: it panicked"));
    ck_assert_ptr_nonnull(strstr(text, "FAILED: 126 of 132 cells were not tried; 6 attacks stop"));
    ck_assert_ptr_nonnull(strstr(text, "?: not tried"));
    ck_assert_ptr_nonnull(strstr(text, " stop ?\n"));
    ck_assert_ptr_null(strstr(text, "DIFFERS"));
}
END_TEST

/* Whatever is found, it fits the columns of a terminal. */
START_TEST(test_columns)
{
    free(result.cells);
    make((unsigned)_i);
    for (unsigned d = 0; d < (unsigned)_i; d++) {
        open_cell(cell_of(d, d, 0));
        result.window[d] = (struct harness_window){
            .measured = true, .samples = 100000, .accesses_max = 123456789, .ns_max = 12345678901.0
        };
        result.exposure[d] = (struct harness_exposure){ 123456789, 123456789, 123456789,
                                                        123456789 };
    }
    dma_text_print(out, &report, false);
    expect_columns();
}
END_TEST

START_TEST(test_one_attack)
{
    report.attacks = 1u << 4;
    dma_text_print(out, &report, false);
    told();
    ck_assert_ptr_nonnull(strstr(text, attack_table[4]->name));
    ck_assert_ptr_null(strstr(text, attack_table[5]->name));
}
END_TEST

START_TEST(test_tap)
{
    unsigned ok = 0, not_ok = 0, plan = 0;

    cell_of(0, 0, 0)->expected.applies = cell_of(0, 0, 0)->observed.applies = false;
    break_cell(cell_of(0, 1, 1));
    result.random_steps = 1000;
    dma_text_print_tap(out, &report);
    told();
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        ok += !strncmp(line, "ok ", 3);
        not_ok += !strncmp(line, "not ok ", 7);
        sscanf(line, "1..%u", &plan);
    }
    /* Cells but for the one that does not apply, the random run, the guest. */
    ck_assert_uint_eq(plan, 132 - 1 + 2);
    ck_assert_uint_eq(not_ok, 1);
    ck_assert_uint_eq(ok, plan - 1);
    ck_assert_ptr_nonnull(strstr(text, "# expected: stopped, because nothing maps it"));
    ck_assert_ptr_nonnull(strstr(text, "1000 random accesses, seed 42"));
}
END_TEST

START_TEST(test_json)
{
    json_t *json, *cell;

    open_cell(cell_of(0, 0, 1));
    break_cell(cell_of(0, 1, 1));
    result.window[1] = (struct harness_window){ .measured = true, .samples = 10, .ns_max = NAN };
    report.path = "not text: \xff";
    json = dma_json(&report);
    ck_assert_ptr_nonnull(json);
    ck_assert_str_eq(json_string_value(json_object_get(json, "schema")), "strata.dma-test");
    ck_assert(json_is_false(json_object_get(json, "ok")));
    ck_assert_int_eq(json_integer_value(json_object_get(json, "seed")), 42);
    ck_assert_int_eq(json_integer_value(json_object_get(json, "differing")), 1);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "cells")), 132);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "attacks")), ATTACK_COUNT);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "exposure")), 3);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "unmap_windows")), 1);
    ck_assert(json_is_null(
        json_object_get(json_array_get(json_object_get(json, "unmap_windows"), 0), "max_ns")));
    cell = json_array_get(json_object_get(json, "cells"), 1);
    ck_assert_str_eq(json_string_value(json_object_get(cell, "region")), "keys");
    ck_assert(json_is_true(json_object_get(json_object_get(cell, "observed"), "succeeds")));
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(cell, "observed"), "read_bytes")),
        16384);
    cell = json_array_get(json_object_get(json, "cells"), 3);
    ck_assert(json_is_false(json_object_get(cell, "ok")));
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(cell, "failure")), "canary"));
    json_decref(json);
    fclose(out);
}
END_TEST

/* What --check-only tells a program; a path that is no text is left out. */
START_TEST(test_policy_json)
{
    json_t *json, *said, *windows;

    policy.guest.nregions = 2;
    policy.guest.region[1].kind = ABI_REGION_IDENTITY;
    policy.guest.region[1].gpa = policy.guest.region[1].iova = 0x8000000000;
    policy.guest.region[1].endpoints = 1u << 2;
    json = dma_json_policy(&policy, "not text: \xff");
    ck_assert_ptr_nonnull(json);
    ck_assert_str_eq(json_string_value(json_object_get(json, "schema")), "strata.dma-policy");
    ck_assert(json_is_true(json_object_get(json, "valid")));
    said = json_object_get(json, "policy");
    ck_assert_ptr_null(json_object_get(said, "file"));
    ck_assert_uint_eq(json_array_size(json_object_get(said, "devices")), policy.guest.ndevices);
    said = json_object_get(said, "regions");
    ck_assert_uint_eq(json_array_size(said), policy.guest.nregions);
    ck_assert_ptr_null(json_object_get(json_array_get(said, 0), "gpa"));
    said = json_array_get(said, 1);
    ck_assert_str_eq(json_string_value(json_object_get(said, "kind")), "permanent window");
    ck_assert_str_eq(json_string_value(json_object_get(said, "gpa")), "0x8000000000");
    windows = json_object_get(said, "windows");
    ck_assert_uint_eq(json_array_size(windows), 1);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(windows, 0), "device")),
                     policy.guest.device[2].name);
    json_decref(json);
    fclose(out);
}
END_TEST

START_TEST(test_html)
{
    break_cell(cell_of(0, 1, 1));
    open_cell(cell_of(1, 1, 1));
    report.path = "<script>.dts";
    dma_html_print(out, &report);
    told();
    ck_assert_ptr_nonnull(strstr(text, "<!DOCTYPE html>"));
    ck_assert_ptr_nonnull(strstr(text, "</html>"));
    ck_assert_ptr_nonnull(strstr(text, "one &lt;b&gt; of everything"));
    ck_assert_ptr_nonnull(strstr(text, "unwritten &amp; whole"));
    ck_assert_ptr_nonnull(strstr(text, "&lt;script&gt;.dts"));
    /* It stands by itself. */
    ck_assert_ptr_null(strstr(text, "<script>"));
    ck_assert_ptr_null(strstr(text, "http:"));
    ck_assert_ptr_null(strstr(text, "https:"));
    ck_assert_ptr_null(strstr(text, "src="));
    ck_assert_ptr_null(strstr(text, "url("));
    ck_assert_ptr_nonnull(strstr(text, "class=\"bad\""));
    ck_assert_ptr_nonnull(strstr(text, "class=\"part\""));
    /* Every link of the matrix leads somewhere. */
    for (const char *at = text; (at = strstr(at, "href=\"#")); at++) {
        char id[32];

        snprintf(id, sizeof(id), "id=\"%.*s\"", (int)strcspn(at + 7, "\""), at + 7);
        ck_assert_msg(strstr(text, id) != NULL, "%s is nowhere", id);
    }
}
END_TEST

Suite *dma_report_suite(void)
{
    Suite *suite = suite_create("dma-report");
    TCase *tc = tcase_create("dma-report");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_matrix_cell);
    tcase_add_test(tc, test_text);
    tcase_add_test(tc, test_ok);
    tcase_add_test(tc, test_dead_guest);
    tcase_add_loop_test(tc, test_columns, 1, ABI_POLICY_DEVICES_MAX + 1);
    tcase_add_test(tc, test_one_attack);
    tcase_add_test(tc, test_tap);
    tcase_add_test(tc, test_json);
    tcase_add_test(tc, test_policy_json);
    tcase_add_test(tc, test_html);
    suite_add_tcase(suite, tc);
    return suite;
}
