/* A call that may block for longer than a loop can wait, made in a short-lived thread beside the loop. Example:
 * getaddrinfo, while no name server answers.
 *
 *     call = offload_start(look_up, free_question, question);
 *     while (!offload_is_done(call))
 *         poll offload_fd for POLLIN
 *     read the answer in question
 *     offload_free(call);
 *
 * The caller may free the call at any time, without waiting: the thread then frees data when it is done. A thread that
 * still hangs at the end of the process is ended with it. */
#ifndef COMMON_BASE_OFFLOAD_H
#define COMMON_BASE_OFFLOAD_H

#include <stdbool.h>

struct offload;

/* Calls work(data) in a thread that takes no signals. Only the thread may use data until offload_is_done. free_data is
 * called once, by either thread. NULL with errno: nothing was called, and data is still the caller's. */
struct offload *offload_start(void (*work)(void *data), void (*free_data)(void *data), void *data);
bool offload_is_done(const struct offload *call);
int offload_fd(const struct offload *call); /* readable from then on */
/* Only once offload_is_done: gives data back to the caller, and frees the call but not data. */
void *offload_take(struct offload *call);
void offload_free(struct offload *call);

#endif
