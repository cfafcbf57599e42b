/* The least that can read the kernel log: a blocking read(2), the clock, nothing else.
 *
 * Prints "ready" when it listens. At end of standard input it prints, for each OOM kill that it read, the record's sequence
 * number, its stamp in microseconds, and CLOCK_BOOTTIME in nanoseconds when read(2) had returned it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST 8192

static struct kill {
    unsigned long long sequence, stamp_us, read_ns;
} kills[MOST];
static volatile size_t seen;

static void *tell_at_the_end(void *unused)
{
    char byte;
    (void)unused;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    for (size_t i = 0; i < seen; i++)
        printf("%llu %llu %llu\n", kills[i].sequence, kills[i].stamp_us, kills[i].read_ns);
    fflush(stdout);
    _exit(0);
}

int main(void)
{
    static char record[8193];
    pthread_t teller;
    int log = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);

    if (log < 0 || lseek(log, 0, SEEK_END) < 0 || pthread_create(&teller, NULL, tell_at_the_end, NULL)) {
        perror("kmsg-reader");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        ssize_t length = read(log, record, sizeof record - 1);
        struct timespec now;

        clock_gettime(CLOCK_BOOTTIME, &now);
        if (length < 0 && (errno == EPIPE || errno == EINTR))
            continue;
        if (length < 0)
            return 1;
        record[length] = 0;
        if (seen < MOST && strstr(record, "Killed process ") &&
            sscanf(record, "%*u,%llu,%llu,", &kills[seen].sequence, &kills[seen].stamp_us) == 2) {
            kills[seen].read_ns = now.tv_sec * 1000000000ull + now.tv_nsec;
            seen++;
        }
    }
}
