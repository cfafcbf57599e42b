/* The least that can fill memory: one mapping without huge pages, and a byte written into each page. Then it sleeps. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    size_t bytes = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    long page = sysconf(_SC_PAGESIZE);
    volatile char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (bytes == 0 || memory == MAP_FAILED) {
        perror("touch");
        return 1;
    }
    madvise((void *)memory, bytes, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < bytes; at += page)
        memory[at] = 1;
    for (;;)
        pause();
}
