// watch-file inotify|poll FILE MARKER: writes a line to MARKER (a trace_marker, so that it is stamped by the clock of the
// trace) each time that FILE is said to have changed, with what it says of oom_kill.
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int use_inotify = strcmp(argv[1], "inotify") == 0;
    int file = open(argv[2], O_RDONLY), marker = open(argv[3], O_WRONLY), watch = inotify_init1(0);
    if (file < 0 || marker < 0 || watch < 0) return 1;
    if (use_inotify && inotify_add_watch(watch, argv[2], IN_MODIFY) < 0) return 1;
    char text[4096], line[128];
    for (;;) {
        // kernfs: poll(2) reports a change since the last read.
        ssize_t length = pread(file, text, sizeof text - 1, 0);
        if (length < 0) return 0;
        text[length] = 0;
        const char *kills = strstr(text, "oom_kill ");
        int size = snprintf(line, sizeof line, "%s says oom_kill=%d\n", argv[1], kills ? atoi(kills + 9) : -1);
        if (write(marker, line, size) < 0) return 1;
        if (use_inotify) {
            if (read(watch, text, sizeof text) <= 0) return 1;
        } else {
            struct pollfd change = {.fd = file, .events = POLLPRI};
            if (poll(&change, 1, -1) < 0) return 1;
        }
    }
}
