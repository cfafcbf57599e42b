/* Sleeps to absolute times at a steady rate and says how late it woke, at the 99th percentile in microseconds: what this machine grants whoever does nothing else.
 * sleeper RATE SECONDS */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static int by_size(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    long rate = argc > 2 ? atol(argv[1]) : 0, count = rate * (argc > 2 ? atol(argv[2]) : 0);
    long *late = count > 0 ? malloc(count * sizeof *late) : NULL;
    if (!late)
        return 2;
    /* Else the kernel may wake it 50 microseconds late to save power. */
    prctl(PR_SET_TIMERSLACK, 1);
    struct timespec due, now;
    clock_gettime(CLOCK_BOOTTIME, &due);
    for (long i = 0; i < count; i++) {
        due.tv_nsec += 1000000000 / rate;
        due.tv_sec += due.tv_nsec / 1000000000;
        due.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &due, NULL);
        clock_gettime(CLOCK_BOOTTIME, &now);
        late[i] = (now.tv_sec - due.tv_sec) * 1000000L + (now.tv_nsec - due.tv_nsec) / 1000;
    }
    qsort(late, count, sizeof *late, by_size);
    printf("%ld\n", late[count * 99 / 100]);
    return 0;
}
