#include "cli/completion.h"

#include "cli/verbs.h"

#include <string.h>

static void append_options(struct buf *out, const struct command_line_option *options)
{
    for (const struct command_line_option *option = options; option && option->name; option++)
        if (!option->hidden)
            buf_printf(out, " --%s", option->name);
}

static void append_names(struct buf *out)
{
    for (size_t i = 0; i < VERBS_LEN; i++)
        buf_printf(out, " %s", VERBS[i].name);
}

/* The options that have a value, as a pattern: what follows one is for the user to write. */
static void append_valued(struct buf *out)
{
    buf_append_text(out, "--config");
    for (size_t i = 0; i < VERBS_LEN; i++)
        for (const struct command_line_option *o = VERBS[i].options; o && o->name; o++)
            if (o->argument)
                buf_printf(out, "|--%s", o->name);
}

static void append_verb(struct buf *out, const struct verb *verb)
{
    buf_printf(out, "    %s) words='", verb->name);
    for (const struct verb_action *action = verb->actions; action && action->name; action++)
        buf_printf(out, " %s", action->name);
    if (strcmp(verb->name, "help") == 0)
        append_names(out);
    append_options(out, verb->options);
    append_options(out, cli_general_options(verb));
    buf_append_text(out, "' ;;\n");
}

void completion_bash(struct buf *out)
{
    buf_append_text(out, "# bash completion for mqtt-bridge\n"
                         "_mqtt_bridge() {\n"
                         "    local current=${COMP_WORDS[COMP_CWORD]} verb='' words i\n"
                         "    COMPREPLY=()\n"
                         "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n"
                         "    --config) mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); "
                         "return ;;\n"
                         "    ");
    append_valued(out);
    buf_append_text(out, ") return ;;\n"
                         "    esac\n"
                         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                         "        case ${COMP_WORDS[i]} in\n"
                         "        --config) ((i++)) ;;\n"
                         "        -*) ;;\n"
                         "        *) verb=${COMP_WORDS[i]}; break ;;\n"
                         "        esac\n"
                         "    done\n"
                         "    case $verb in\n"
                         "    '') words='");
    append_names(out);
    append_options(out, cli_general_options(NULL));
    buf_append_text(out, "' ;;\n");
    for (size_t i = 0; i < VERBS_LEN; i++)
        append_verb(out, &VERBS[i]);
    buf_append_text(out, "    esac\n"
                         "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
                         "}\n"
                         "complete -F _mqtt_bridge mqtt-bridge\n");
}
