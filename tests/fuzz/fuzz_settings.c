/* Any bytes as an ini, and behind a form feed as values of the variables, a line each in the table's order. There is no
 * crash and no leak. What is accepted survives the way to a child. */
#include "common/base/alloc.h"
#include "common/settings/settings_table.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_variables(struct bytes lines)
{
    struct bytes line;

    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        if (!SETTINGS_TABLE[i].env)
            continue;
        bytes_split(lines, '\n', &line, &lines);
        char *value = xstrndup(line.len > 0 ? line.data : "", line.len);
        setenv(SETTINGS_TABLE[i].env, value, 1);
        free(value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const PROCESSES[] = {"consumer", "worker", "monitor"};
    struct bytes ini, variables;
    struct settings *settings;
    struct settings *copy;
    struct buf faults = {0};
    struct buf packed = {0};
    struct error err;

    bytes_split((struct bytes){(const char *)data, size}, '\f', &ini, &variables);
    set_variables(variables);
    if (settings_load_text(&settings, "fuzz.ini", ini, false, &faults) == 0) {
        for (size_t i = 0; i < LENGTH_OF(PROCESSES); i++) {
            buf_clear(&packed);
            settings_pack(settings, PROCESSES[i], &packed);
            if (settings_unpack(&copy, buf_bytes(&packed), &err) < 0)
                abort();
            settings_free(copy);
        }
        settings_free(settings);
    }
    if (settings_unpack(&copy, (struct bytes){(const char *)data, size}, &err) == 0)
        settings_free(copy);
    buf_free(&faults);
    buf_free(&packed);
    return 0;
}
