/* No message waits for paho's nap: its receive thread follows each silent second with usleep(100 ms),
 * and what arrives then lies in the socket until it wakes (of messages 1.1 s apart, four in five by 70 ms
 * and more). Its poll has done the waiting already, so this program has a usleep of its own, which is
 * found before libc's and leaves out that thread's naps. */
#ifndef CONSUMER_MQTT_PAHO_USLEEP_H
#define CONSUMER_MQTT_PAHO_USLEEP_H

/* Called in the thread that shall not nap any more. */
void paho_usleep_skip_naps(void);

#endif
