#include "common/base/bytes.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

struct bytes bytes_of(const char *text)
{
    if (text == NULL)
        return BYTES_NONE;
    return (struct bytes){text, strlen(text)};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool bytes_equal_text(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_of(text));
}

bool bytes_equal_caseless(struct bytes a, const char *text)
{
    return a.len == strlen(text) && (a.len == 0 || strncasecmp(a.data, text, a.len) == 0);
}

bool bytes_starts_with(struct bytes whole, struct bytes start)
{
    return whole.len >= start.len &&
           (start.len == 0 || memcmp(whole.data, start.data, start.len) == 0);
}

bool bytes_ends_with(struct bytes whole, struct bytes end)
{
    if (whole.len < end.len)
        return false;
    return bytes_equal(bytes_slice(whole, whole.len - end.len, end.len), end);
}

bool bytes_only_holds(struct bytes whole, const char *more)
{
    for (size_t i = 0; i < whole.len; i++) {
        char c = whole.data[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

        if (!letter && !(c >= '0' && c <= '9') && (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return true;
}

size_t bytes_leading_digits(struct bytes whole)
{
    size_t count = 0;

    while (count < whole.len && whole.data[count] >= '0' && whole.data[count] <= '9')
        count++;
    return count;
}

struct bytes bytes_slice(struct bytes whole, size_t from, size_t len)
{
    if (from > whole.len)
        from = whole.len;
    if (len > whole.len - from)
        len = whole.len - from;
    if (whole.data == NULL)
        return BYTES_NONE;
    return (struct bytes){whole.data + from, len};
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

struct bytes bytes_trim(struct bytes whole)
{
    while (whole.len > 0 && is_space(whole.data[0])) {
        whole.data++;
        whole.len--;
    }
    while (whole.len > 0 && is_space(whole.data[whole.len - 1]))
        whole.len--;
    return whole;
}

bool bytes_split(struct bytes whole, char separator, struct bytes *head, struct bytes *tail)
{
    const char *at = whole.len > 0 ? memchr(whole.data, separator, whole.len) : NULL;

    if (at == NULL) {
        *head = whole;
        *tail = BYTES_NONE;
        return false;
    }
    size_t before = (size_t)(at - whole.data);
    *tail = (struct bytes){at + 1, whole.len - before - 1};
    *head = (struct bytes){whole.data, before};
    return true;
}

static bool holds(struct bytes text, const char *characters)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != '\0' && strchr(characters, text.data[i]) != NULL)
            return true;
    return false;
}

bool bytes_split_port(struct bytes address, struct bytes *host, struct bytes *port)
{
    struct bytes behind;

    *port = BYTES_NONE;
    if (!bytes_starts_with(address, BYTES("["))) {
        bytes_split(address, ':', host, port);
        return !holds(*host, "[]") && !holds(*port, ":");
    }
    bool closed = bytes_split(bytes_slice(address, 1, address.len), ']', host, &behind);
    if (!closed || host->len == 0 || holds(*host, "["))
        return false;
    if (behind.len > 0)
        *port = bytes_slice(behind, 1, behind.len);
    return behind.len == 0 || behind.data[0] == ':';
}

size_t bytes_to_ip(struct bytes text, unsigned char ip[BYTES_IP_SIZE])
{
    char copy[INET6_ADDRSTRLEN];

    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.data, '\0', text.len) != NULL)
        return 0;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET, copy, ip) == 1)
        return sizeof(struct in_addr);
    return inet_pton(AF_INET6, copy, ip) == 1 ? sizeof(struct in6_addr) : 0;
}

bool bytes_to_port(struct bytes text, uint16_t *port)
{
    uint64_t number;

    if (!bytes_to_u64(text, &number) || number == 0 || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool is_separator(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool bytes_next_item(struct bytes *list, struct bytes *item)
{
    size_t from = 0;

    while (from < list->len && is_separator(list->data[from]))
        from++;
    size_t to = from;
    while (to < list->len && !is_separator(list->data[to]))
        to++;
    *item = bytes_slice(*list, from, to - from);
    *list = bytes_slice(*list, to, list->len);
    return item->len > 0;
}

char *bytes_put_digits(char *to, uint64_t value)
{
    char digits[BYTES_DIGITS_MAX];
    size_t len = 0;

    do {
        digits[len++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (len > 0)
        *to++ = digits[--len];
    return to;
}

bool bytes_to_u64(struct bytes text, uint64_t *value)
{
    uint64_t sum = 0;

    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];

        if (c < '0' || c > '9')
            return false;
        if (__builtin_mul_overflow(sum, 10U, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(c - '0'), &sum))
            return false;
    }
    *value = sum;
    return true;
}

uint64_t bytes_hash(struct bytes text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

int bytes_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Returns the length of the UTF-8 sequence that starts at p, or 0. RFC 3629, section 4. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xC2 && p[0] <= 0xDF)
        len = 2;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF)
        len = 3;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4)
        len = 4;
    else
        return 0;
    if (len > left)
        return 0;
    if (p[0] == 0xE0)
        low = 0xA0;
    else if (p[0] == 0xED)
        high = 0x9F;
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    return len;
}

bool bytes_is_utf8(struct bytes text)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t i = 0;

    while (i < text.len) {
        uint64_t word;

        /* Eight ASCII bytes are checked at once: devices send hardly anything else. */
        if (text.len - i >= sizeof(word)) {
            memcpy(&word, p + i, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        size_t len = utf8_sequence(p + i, text.len - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

size_t bytes_utf8_length(struct bytes text)
{
    return utf8_sequence((const unsigned char *)text.data, text.len);
}

static char shown_byte(unsigned char c)
{
    return strchr(" \t\r\n", c) != NULL && c != '\0' ? ' ' : '?';
}

void bytes_to_printable(struct bytes text, char *out, size_t size)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t used = 0;
    size_t i = 0;

    while (i < text.len) {
        size_t len = utf8_sequence(p + i, text.len - i);
        bool control = len == 0 || p[i] < 0x20 || p[i] == 0x7F ||
                       (p[i] == 0xC2 && p[i + 1] < 0xA0); /* C1 controls: U+0080 to U+009F */

        if (used + (control ? 1 : len) >= size)
            break;

        if (control)
            out[used++] = shown_byte(p[i]);
        else
            memcpy(out + used, p + i, len);
        used += control ? 0 : len;
        i += len > 0 ? len : 1;
    }
    out[used] = '\0';
}

/* The remainders of one byte for the reflected polynomial 0x82F63B78. */
static const uint32_t BYTE_REMAINDERS[256] = {
    0x00000000, 0xF26B8303, 0xE13B70F7, 0x1350F3F4, 0xC79A971F, 0x35F1141C, 0x26A1E7E8, 0xD4CA64EB,
    0x8AD958CF, 0x78B2DBCC, 0x6BE22838, 0x9989AB3B, 0x4D43CFD0, 0xBF284CD3, 0xAC78BF27, 0x5E133C24,
    0x105EC76F, 0xE235446C, 0xF165B798, 0x030E349B, 0xD7C45070, 0x25AFD373, 0x36FF2087, 0xC494A384,
    0x9A879FA0, 0x68EC1CA3, 0x7BBCEF57, 0x89D76C54, 0x5D1D08BF, 0xAF768BBC, 0xBC267848, 0x4E4DFB4B,
    0x20BD8EDE, 0xD2D60DDD, 0xC186FE29, 0x33ED7D2A, 0xE72719C1, 0x154C9AC2, 0x061C6936, 0xF477EA35,
    0xAA64D611, 0x580F5512, 0x4B5FA6E6, 0xB93425E5, 0x6DFE410E, 0x9F95C20D, 0x8CC531F9, 0x7EAEB2FA,
    0x30E349B1, 0xC288CAB2, 0xD1D83946, 0x23B3BA45, 0xF779DEAE, 0x05125DAD, 0x1642AE59, 0xE4292D5A,
    0xBA3A117E, 0x4851927D, 0x5B016189, 0xA96AE28A, 0x7DA08661, 0x8FCB0562, 0x9C9BF696, 0x6EF07595,
    0x417B1DBC, 0xB3109EBF, 0xA0406D4B, 0x522BEE48, 0x86E18AA3, 0x748A09A0, 0x67DAFA54, 0x95B17957,
    0xCBA24573, 0x39C9C670, 0x2A993584, 0xD8F2B687, 0x0C38D26C, 0xFE53516F, 0xED03A29B, 0x1F682198,
    0x5125DAD3, 0xA34E59D0, 0xB01EAA24, 0x42752927, 0x96BF4DCC, 0x64D4CECF, 0x77843D3B, 0x85EFBE38,
    0xDBFC821C, 0x2997011F, 0x3AC7F2EB, 0xC8AC71E8, 0x1C661503, 0xEE0D9600, 0xFD5D65F4, 0x0F36E6F7,
    0x61C69362, 0x93AD1061, 0x80FDE395, 0x72966096, 0xA65C047D, 0x5437877E, 0x4767748A, 0xB50CF789,
    0xEB1FCBAD, 0x197448AE, 0x0A24BB5A, 0xF84F3859, 0x2C855CB2, 0xDEEEDFB1, 0xCDBE2C45, 0x3FD5AF46,
    0x7198540D, 0x83F3D70E, 0x90A324FA, 0x62C8A7F9, 0xB602C312, 0x44694011, 0x5739B3E5, 0xA55230E6,
    0xFB410CC2, 0x092A8FC1, 0x1A7A7C35, 0xE811FF36, 0x3CDB9BDD, 0xCEB018DE, 0xDDE0EB2A, 0x2F8B6829,
    0x82F63B78, 0x709DB87B, 0x63CD4B8F, 0x91A6C88C, 0x456CAC67, 0xB7072F64, 0xA457DC90, 0x563C5F93,
    0x082F63B7, 0xFA44E0B4, 0xE9141340, 0x1B7F9043, 0xCFB5F4A8, 0x3DDE77AB, 0x2E8E845F, 0xDCE5075C,
    0x92A8FC17, 0x60C37F14, 0x73938CE0, 0x81F80FE3, 0x55326B08, 0xA759E80B, 0xB4091BFF, 0x466298FC,
    0x1871A4D8, 0xEA1A27DB, 0xF94AD42F, 0x0B21572C, 0xDFEB33C7, 0x2D80B0C4, 0x3ED04330, 0xCCBBC033,
    0xA24BB5A6, 0x502036A5, 0x4370C551, 0xB11B4652, 0x65D122B9, 0x97BAA1BA, 0x84EA524E, 0x7681D14D,
    0x2892ED69, 0xDAF96E6A, 0xC9A99D9E, 0x3BC21E9D, 0xEF087A76, 0x1D63F975, 0x0E330A81, 0xFC588982,
    0xB21572C9, 0x407EF1CA, 0x532E023E, 0xA145813D, 0x758FE5D6, 0x87E466D5, 0x94B49521, 0x66DF1622,
    0x38CC2A06, 0xCAA7A905, 0xD9F75AF1, 0x2B9CD9F2, 0xFF56BD19, 0x0D3D3E1A, 0x1E6DCDEE, 0xEC064EED,
    0xC38D26C4, 0x31E6A5C7, 0x22B65633, 0xD0DDD530, 0x0417B1DB, 0xF67C32D8, 0xE52CC12C, 0x1747422F,
    0x49547E0B, 0xBB3FFD08, 0xA86F0EFC, 0x5A048DFF, 0x8ECEE914, 0x7CA56A17, 0x6FF599E3, 0x9D9E1AE0,
    0xD3D3E1AB, 0x21B862A8, 0x32E8915C, 0xC083125F, 0x144976B4, 0xE622F5B7, 0xF5720643, 0x07198540,
    0x590AB964, 0xAB613A67, 0xB831C993, 0x4A5A4A90, 0x9E902E7B, 0x6CFBAD78, 0x7FAB5E8C, 0x8DC0DD8F,
    0xE330A81A, 0x115B2B19, 0x020BD8ED, 0xF0605BEE, 0x24AA3F05, 0xD6C1BC06, 0xC5914FF2, 0x37FACCF1,
    0x69E9F0D5, 0x9B8273D6, 0x88D28022, 0x7AB90321, 0xAE7367CA, 0x5C18E4C9, 0x4F48173D, 0xBD23943E,
    0xF36E6F75, 0x0105EC76, 0x12551F82, 0xE03E9C81, 0x34F4F86A, 0xC69F7B69, 0xD5CF889D, 0x27A40B9E,
    0x79B737BA, 0x8BDCB4B9, 0x988C474D, 0x6AE7C44E, 0xBE2DA0A5, 0x4C4623A6, 0x5F16D052, 0xAD7D5351,
};

uint32_t bytes_crc32c_portable(uint32_t seed, const void *data, size_t len)
{
    const unsigned char *p = data;
    uint32_t crc = ~seed;

    for (size_t i = 0; i < len; i++)
        crc = (crc >> 8) ^ BYTE_REMAINDERS[(crc ^ p[i]) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t seed, const void *data,
                                                               size_t len)
{
    const unsigned char *p = data;
    uint64_t crc = ~seed;

    for (; len >= sizeof(uint64_t); len -= sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, p, sizeof(word));
        crc = _mm_crc32_u64(crc, word);
        p += sizeof(word);
    }
    uint32_t crc32 = (uint32_t)crc;
    for (; len > 0; len--)
        crc32 = _mm_crc32_u8(crc32, *p++);
    return ~crc32;
}
#endif

uint32_t bytes_crc32c(uint32_t seed, const void *data, size_t len)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(seed, data, len);
#endif
    return bytes_crc32c_portable(seed, data, len);
}
