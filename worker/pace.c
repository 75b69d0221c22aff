#include "worker/pace.h"

void pace_init(struct pace *pace, size_t most)
{
    *pace = (struct pace){.most = most, .window = most, .threshold = most};
}

void pace_waited(struct pace *pace)
{
    pace->threshold = pace->window > 1 ? pace->window / 2 : 1;
    pace->window = 1;
    pace->passed = 0;
}

bool pace_passed(struct pace *pace)
{
    if (pace_is_full(pace))
        return true;
    if (++pace->passed < pace->window)
        return false;
    pace->passed = 0;
    if (pace->window * 2 <= pace->threshold)
        pace->window *= 2;
    else
        pace->window++;
    return true;
}

bool pace_is_full(const struct pace *pace)
{
    return pace->window == pace->most;
}
