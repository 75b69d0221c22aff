#include "cli/manual.h"
#include "cli/verbs.h"
#include "common/settings/settings_table.h"

#include <cjson/cJSON.h>

#define ORIGIN_COLUMN 44

static void print_row(struct buf *out, const struct settings *settings, const struct setting *row,
                      const struct setting_view *view)
{
    size_t start = out->len;

    buf_printf(out, "%s%s = ", row->flags & SETTING_SECRET ? "; " : "", row->key);
    setting_format_masked(row, view->base, out);
    while (out->len - start < ORIGIN_COLUMN)
        buf_append_char(out, ' ');
    buf_printf(out, " ; %s\n", settings_origin(settings, row, view));
}

/* In the ini's form: what is printed can be read again, but for the secrets, which are comments. */
static void print_text(struct buf *out, const struct settings *settings)
{
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);

        if (view.section == SETTING_ENVIRONMENT) {
            buf_printf(out, "; APP_ENV = %s\n", settings->app_env);
            continue;
        }
        buf_append_char(out, '[');
        setting_view_title(&view, out);
        buf_append_text(out, "]\n");
        for (size_t j = 0; j < SETTINGS_TABLE_LEN; j++)
            if (SETTINGS_TABLE[j].section == view.section)
                print_row(out, settings, &SETTINGS_TABLE[j], &view);
        buf_append_char(out, '\n');
    }
}

static cJSON *json_value(const struct setting *row, const struct setting_view *view)
{
    const void *field = (const char *)view->base + row->offset;
    struct buf text = {0};
    cJSON *value = NULL;
    switch (row->type) {
    case SETTING_NUMBER:
    case SETTING_COUNT:
        value = cJSON_CreateNumber((double)*(const int64_t *)field);
        break;
    case SETTING_REAL:
        value = cJSON_CreateNumber(*(const double *)field);
        break;
    case SETTING_BOOL:
        value = cJSON_CreateBool(*(const bool *)field);
        break;
    case SETTING_TEXT:
    case SETTING_DURATION:
    case SETTING_SIZE:
    case SETTING_CHOICE:
        setting_format_masked(row, view->base, &text);
        value = cJSON_CreateString(buf_text(&text));
        break;
    }
    buf_free(&text);
    return value;
}

static void print_json(struct buf *out, const struct settings *settings)
{
    cJSON *root = cJSON_CreateObject();

    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        struct buf title = {0};

        setting_view_title(&view, &title);
        cJSON *section = cJSON_AddObjectToObject(root, buf_text(&title));
        for (size_t j = 0; j < SETTINGS_TABLE_LEN; j++) {
            const struct setting *row = &SETTINGS_TABLE[j];

            if (row->section == view.section) {
                cJSON *entry = cJSON_AddObjectToObject(section, row->key);

                cJSON_AddItemToObject(entry, "value", json_value(row, &view));
                cJSON_AddStringToObject(entry, "origin", settings_origin(settings, row, &view));
            }
        }
        buf_free(&title);
    }
    cli_append_json(out, root);
}

int verb_config(struct cli *cli)
{
    struct buf out = {0};

    if (cli_option(cli, "template")) {
        manual_template(&out);
    } else if (cli_option(cli, "reference")) {
        manual_reference(&out);
    } else if (cli_option(cli, "man")) {
        manual_settings_page(&out);
    } else {
        const struct settings *settings = cli_settings(cli);

        if (!settings)
            return CLI_USAGE;
        if (cli->json)
            print_json(&out, settings);
        else
            print_text(&out, settings);
    }
    return cli_print_free(&out);
}
