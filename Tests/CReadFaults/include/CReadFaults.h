// Reads that go wrong, for the tests of this process: it has a read(2) and a pread(2) of its own, which the linker
// takes before the C library's.
#pragma once

enum {
    // errno EIO.
    readfault_error = 1,
    // Fewer bytes than were asked for.
    readfault_short = 2,
    // One byte is another.
    readfault_wrong = 3,
    // As at the end of the file.
    readfault_end = 4,
};

// From now on reads of files whose path holds `path` go wrong: after `skip` that are right, `count` of them.
void readfault_arm(const char *path, int fault, int skip, int count);
// All reads are right again. Returns how many went wrong since readfault_arm.
int readfault_disarm(void);
