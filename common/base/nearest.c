#include "common/base/nearest.h"

#include <ctype.h>
#include <string.h>

#define LENGTH_MAX 63

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int lower_at(struct bytes text, size_t index)
{
    return tolower((unsigned char)text.data[index]);
}

/* Optimal string alignment: rows[0] is the row being filled, rows[1] the one above, rows[2] the one above
 * that, which a swap of neighbours looks back to. */
size_t nearest_distance(struct bytes a, struct bytes b)
{
    size_t rows[3][LENGTH_MAX + 1] = {{0}};

    a.len = least(a.len, LENGTH_MAX);
    b.len = least(b.len, LENGTH_MAX);
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        memcpy(rows[2], rows[1], sizeof(rows[0]));
        memcpy(rows[1], rows[0], sizeof(rows[0]));
        rows[0][0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            bool differ = lower_at(a, i - 1) != lower_at(b, j - 1);
            size_t best = least(rows[1][j - 1] + differ, least(rows[1][j], rows[0][j - 1]) + 1);

            if (i > 1 && j > 1 && lower_at(a, i - 1) == lower_at(b, j - 2) &&
                lower_at(a, i - 2) == lower_at(b, j - 1))
                best = least(best, rows[2][j - 2] + 1);
            rows[0][j] = best;
        }
    }
    return rows[0][b.len];
}

void nearest_consider(struct nearest *nearest, const char *candidate)
{
    struct bytes other = bytes_of(candidate);
    size_t longer = nearest->name.len > other.len ? nearest->name.len : other.len;
    size_t allowed = longer / 3 > 0 ? longer / 3 : 1;
    size_t distance = nearest_distance(nearest->name, other);

    if (distance > allowed || distance >= longer)
        return;
    if (!nearest->best || distance < nearest->best_distance) {
        nearest->best = candidate;
        nearest->best_distance = distance;
    }
}
