/* Any bytes as an ini: no crash, no leak; what is accepted survives the way to a child. */
#include "common/base/settings.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes ini = {(const char *)data, size};
    struct settings *settings;
    struct settings *copy;
    struct buf faults = {0};
    struct buf packed = {0};
    struct error err;
    if (settings_load_text(&settings, "fuzz.ini", ini, &faults) == 0) {
        settings_pack(settings, &packed);
        if (settings_unpack(&copy, buf_bytes(&packed), &err) < 0) {
            abort();
        }
        settings_free(copy);
        settings_free(settings);
    }
    if (settings_unpack(&copy, ini, &err) == 0) {
        settings_free(copy);
    }
    buf_free(&faults);
    buf_free(&packed);
    return 0;
}
