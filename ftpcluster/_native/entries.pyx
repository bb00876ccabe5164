# cython: boundscheck=False, wraparound=False, cdivision=True
"""The entries of directories, and their lines for LIST, MLSD and NLST.

The twins in Python are in ``storage/scanning.py`` and ``protocol/listing.py``.
"""

from ftpcluster.protocol import listing as twin

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.errno cimport EACCES, EINTR, ENOENT, EPERM, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, strerror, strlen

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <fcntl.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>

    struct entry_of_getdents {
        uint64_t d_ino;
        int64_t d_off;
        unsigned short d_reclen;
        unsigned char d_type;
        char d_name[];
    };

    static long read_directory(int fd, void *buffer, size_t size) {
        return syscall(SYS_getdents64, fd, buffer, size);
    }

    static double seconds_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    }
    """
    struct entry_of_getdents:
        uint64_t d_ino
        unsigned short d_reclen
        char *d_name
    long read_directory(int fd, void *buffer, size_t size) nogil
    double seconds_now() nogil


cdef extern from "sys/stat.h" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    struct stat:
        uint64_t st_dev
        uint64_t st_ino
        uint32_t st_mode
        uint64_t st_nlink
        uint32_t st_uid
        uint32_t st_gid
        int64_t st_size
        timespec st_atim
        timespec st_mtim
        timespec st_ctim
    int fstatat(int fd, const char *name, stat *status, int flags)

cdef extern from "unistd.h" nogil:
    ssize_t readlinkat(int fd, const char *name, char *buffer, size_t size)
    int close(int fd)

cdef extern from "fcntl.h":
    int AT_SYMLINK_NOFOLLOW

cdef extern from "Python.h":
    int PyUnicode_IS_COMPACT_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)


cdef enum:
    BUFFER = 32768  # bytes of one getdents64(2), as many as readdir(3) reads
    LONGEST_TARGET = 4096  # PATH_MAX: no target of a link is longer

# ---------------------------------------------------------------------- entries


cdef class Status:
    """The result of lstat(2) for an entry, with the names and the order of ``os.stat_result``."""

    cdef readonly uint32_t st_mode
    cdef readonly uint64_t st_ino
    cdef readonly uint64_t st_dev
    cdef readonly uint64_t st_nlink
    cdef readonly uint32_t st_uid
    cdef readonly uint32_t st_gid
    cdef readonly int64_t st_size
    cdef int64_t seconds
    cdef long nanoseconds
    cdef int64_t accessed
    cdef int64_t changed

    @property
    def st_mtime(self) -> float:
        return self.seconds + 1e-9 * self.nanoseconds

    @property
    def st_mtime_ns(self) -> int:
        return self.seconds * 1_000_000_000 + self.nanoseconds

    def __getitem__(self, field):
        return (
            self.st_mode, self.st_ino, self.st_dev, self.st_nlink, self.st_uid, self.st_gid,
            self.st_size, self.accessed, self.seconds, self.changed,
        )[field]  # fmt: skip

    def __repr__(self) -> str:
        return f"Status{self[:]}"


cdef struct Record:
    stat status
    Py_ssize_t name  # the offset in ``text``; so is ``target``
    Py_ssize_t name_size
    Py_ssize_t target
    Py_ssize_t target_size  # -1 for an entry that is no link


cdef class entries_in:
    """An iterator over the entries of an open directory, in batches of ``most``."""

    cdef int fd
    cdef Py_ssize_t most
    cdef double seconds  # that a batch may take; below 0: any time
    cdef char *buffer
    cdef Py_ssize_t filled  # bytes of the directory in the buffer
    cdef Py_ssize_t place  # the offset of the next entry in the buffer
    cdef bint is_read  # whether the directory was read to its end
    cdef Record *records
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef char *text  # the names and targets of a batch
    cdef Py_ssize_t text_size
    cdef Py_ssize_t text_filled
    cdef bint is_running

    def __cinit__(self, int fd, Py_ssize_t most, seconds=None):
        if most < 1:
            raise ValueError("a batch holds one entry at least")
        self.fd = fd
        self.most = most
        self.seconds = -1.0 if seconds is None else max(0.0, seconds)
        self.buffer = <char *>malloc(BUFFER)
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)
        free(self.records)
        free(self.text)

    def __iter__(self):
        return self

    def __next__(self):
        cdef int problem
        if self.is_running:
            raise ValueError("another thread reads this directory")
        self.is_running = True
        try:
            with nogil:
                problem = self.read()
            if problem == -1:
                raise MemoryError
            if problem:
                raise OSError(problem, strerror(problem).decode())
            if not self.count:
                raise StopIteration
            return self.made()
        finally:
            self.is_running = False

    cdef int read(self) noexcept nogil:
        """Read a batch into ``records`` and ``text``. Returns 0, an errno, or -1 (no memory)."""
        cdef double due = 0.0
        cdef int problem
        cdef entry_of_getdents *entry
        if self.seconds >= 0:
            due = seconds_now() + self.seconds
        self.count = self.text_filled = 0
        while self.count < self.most and not self.is_read:
            if self.place >= self.filled:
                self.place = 0
                self.filled = read_directory(self.fd, self.buffer, BUFFER)
                if self.filled < 0:
                    self.filled = 0
                    return errno
                if self.filled == 0:
                    self.is_read = True
                    break
            entry = <entry_of_getdents *>(self.buffer + self.place)
            self.place += entry.d_reclen
            problem = self.look_at(entry.d_name)
            if problem:
                return problem
            if self.seconds >= 0 and self.count and seconds_now() > due:
                break
        return 0

    cdef int look_at(self, const char *name) noexcept nogil:
        """Add an entry. Returns as ``read``.

        An entry is left out if it was removed meanwhile, or if this server may not see it (another
        user's FUSE mount). Any other error fails the listing: a client that mirrors the directory
        would take a missing entry for removed.
        """
        cdef Record *record
        cdef char target[LONGEST_TARGET]
        cdef Py_ssize_t size
        if name[0] == b"." and (name[1] == 0 or (name[1] == b"." and name[2] == 0)):
            return 0
        if self.count == self.capacity:
            record = <Record *>realloc(self.records, (self.capacity + 128) * sizeof(Record))
            if record == NULL:
                return -1
            self.records = record
            self.capacity += 128
        record = self.records + self.count
        if fstatat(self.fd, name, &record.status, AT_SYMLINK_NOFOLLOW) != 0:
            return 0 if errno in (ENOENT, EACCES, EPERM) else errno
        record.target_size = -1
        if record.status.st_mode & 0o170000 == 0o120000:
            size = readlinkat(self.fd, name, target, LONGEST_TARGET)
            if size < 0:
                return 0 if errno in (ENOENT, EACCES, EPERM) else errno
            record.target_size = size
            record.target = self.keep(target, size)
            if record.target < 0:
                return -1
        record.name_size = strlen(name)
        record.name = self.keep(name, record.name_size)
        if record.name < 0:
            return -1
        self.count += 1
        return 0

    cdef Py_ssize_t keep(self, const char *text, Py_ssize_t size) noexcept nogil:
        """Copy a name or a target. Returns its offset in ``text``, or -1 (no memory)."""
        cdef Py_ssize_t place = self.text_filled, needed = place + size
        cdef char *larger
        if needed > self.text_size:
            needed = max(2 * self.text_size, needed + 4096)
            larger = <char *>realloc(self.text, needed)
            if larger == NULL:
                return -1
            self.text = larger
            self.text_size = needed
        memcpy(self.text + place, text, size)
        self.text_filled += size
        return place

    cdef list made(self):
        """The batch that was read, as Python objects."""
        cdef Record *record
        cdef Status status
        cdef list batch = []
        cdef Py_ssize_t at
        for at in range(self.count):
            record = self.records + at
            status = Status.__new__(Status)
            status.st_mode = record.status.st_mode
            status.st_ino = record.status.st_ino
            status.st_dev = record.status.st_dev
            status.st_nlink = record.status.st_nlink
            status.st_uid = record.status.st_uid
            status.st_gid = record.status.st_gid
            status.st_size = record.status.st_size
            status.seconds = record.status.st_mtim.tv_sec
            status.nanoseconds = record.status.st_mtim.tv_nsec
            status.accessed = record.status.st_atim.tv_sec
            status.changed = record.status.st_ctim.tv_sec
            name = decoded(self.text + record.name, record.name_size)
            if record.target_size < 0:
                batch.append((name, status, None))
            else:
                target = decoded(self.text + record.target, record.target_size)
                batch.append((name, status, target))
        return batch


cdef object decoded(const char *text, Py_ssize_t size):
    return PyUnicode_DecodeUTF8(text, size, "surrogateescape")


# ---------------------------------------------------------------------- lines


cdef class Text:
    """A growing buffer of UTF-8."""

    cdef char *start
    cdef Py_ssize_t size
    cdef Py_ssize_t filled

    def __cinit__(self):
        self.size = 4096
        self.start = <char *>malloc(self.size)
        if self.start == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.start)

    cdef char *room(self, Py_ssize_t count) except NULL:
        """Room for ``count`` more bytes. The caller adds to ``filled`` what it has written."""
        cdef char *larger
        cdef Py_ssize_t size
        if self.filled + count > self.size:
            size = max(2 * self.size, self.filled + count)
            larger = <char *>realloc(self.start, size)
            if larger == NULL:
                raise MemoryError
            self.start = larger
            self.size = size
        return self.start + self.filled

    cdef int add(self, const char *text, Py_ssize_t size) except -1:
        memcpy(self.room(size), text, size)
        self.filled += size
        return 0

    cdef int add_text(self, str text) except -1:
        cdef bytes encoded
        if PyUnicode_IS_COMPACT_ASCII(text):
            self.add(<char *>PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
        else:
            encoded = text.encode("utf-8", "surrogateescape")
            self.add(encoded, len(encoded))
        return 0

    cdef int add_name(self, str name, printable) except -1:
        """Add a name. ``printable`` replaces its control characters."""
        cdef const uint8_t *data
        cdef Py_ssize_t at, size
        if PyUnicode_IS_COMPACT_ASCII(name):
            data = <const uint8_t *>PyUnicode_DATA(name)
            size = PyUnicode_GET_LENGTH(name)
            for at in range(size):
                if not 0x20 <= data[at] < 0x7F:
                    break
            else:
                return self.add(<const char *>data, size)
        return self.add_text(printable(name))

    cdef int add_number(self, int64_t number, int width) except -1:
        """Add a decimal number, right-aligned in ``width`` columns."""
        cdef char digits[20]
        cdef char *end
        cdef int count = 0
        cdef uint64_t rest = 0 - <uint64_t>number if number < 0 else <uint64_t>number
        while True:
            digits[count] = <char>(48 + rest % 10)
            rest //= 10
            count += 1
            if rest == 0:
                break
        end = self.room(count + 1 + width)
        cdef int written = 0, blanks = width - count - (number < 0)
        while written < blanks:
            end[written] = 32
            written += 1
        if number < 0:
            end[written] = 45
            written += 1
        while count:
            count -= 1
            end[written] = digits[count]
            written += 1
        self.filled += written
        return 0

    cdef int add_padded(self, int number, int width, char blank) except -1:
        """Add a number of at most ``width`` digits, padded on the left with ``blank``."""
        cdef char *end = self.room(width)
        cdef int at = width
        while at:
            at -= 1
            end[at] = <char>(48 + number % 10) if number or at == width - 1 else blank
            number //= 10
        self.filled += width
        return 0

    cdef int add_hex(self, uint64_t number) except -1:
        cdef char *end = self.room(16)
        cdef int count = 1, at
        cdef uint64_t rest = number >> 4
        while rest:
            count += 1
            rest >>= 4
        at = count
        while at:
            at -= 1
            end[at] = b"0123456789abcdef"[number & 15]
            number >>= 4
        self.filled += count
        return 0

    cdef str text(self):
        return PyUnicode_DecodeUTF8(self.start, self.filled, "surrogateescape") if self.filled else ""


cdef enum:
    DAY = 86400
    HALF_A_YEAR = 15778476
    FIRST_DAY = -719162  # 0001-01-01, and 9999-12-31: what Python has dates for
    LAST_DAY = 2932896

cdef const char *MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


cdef struct Date:
    int year
    int month  # 0 to 11
    int day


cdef bint date_of(int64_t day, Date *date) noexcept nogil:
    """Set ``date`` for a day, counted from 1970-01-01. Returns whether Python has such a date.

    Here an era has 400 years, and years begin in March: so the leap day is the last of its year.
    """
    cdef int64_t era, day_of_era, year_of_era, day_of_year, month
    if not FIRST_DAY <= day <= LAST_DAY:
        return False
    day += 719468  # since 0000-03-01
    era = day // 146097  # no day is negative here
    day_of_era = day - era * 146097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153  # from March on
    date.day = <int>(day_of_year - (153 * month + 2) // 5 + 1)
    date.month = <int>(month + 2 if month < 10 else month - 10)
    date.year = <int>(year_of_era + era * 400 + (1 if month >= 10 else 0))
    return True


cdef int64_t floored(int64_t number, int64_t divisor) noexcept nogil:
    return number // divisor - (number % divisor < 0)


cdef int add_list_time(Text text, int64_t seconds, bint is_recent) except -1:
    cdef Date date
    cdef int64_t day = floored(seconds, DAY)
    cdef int minute
    if not date_of(day, &date):
        return text.add_text(twin.NO_TIME)
    text.add(MONTHS + 3 * date.month, 3)
    text.add(b" ", 1)
    text.add_padded(date.day, 2, 32)
    text.add(b" ", 1)
    if is_recent:
        minute = <int>((seconds - day * DAY) // 60)
        text.add_padded(minute // 60, 2, 48)
        text.add(b":", 1)
        text.add_padded(minute % 60, 2, 48)
    else:
        text.add(b" ", 1)
        text.add_number(date.year, 0)
    return 0


cdef int add_timestamp(Text text, int64_t seconds) except -1:
    cdef Date date
    cdef int64_t day = floored(seconds, DAY)
    cdef int second = <int>(seconds - day * DAY)
    if not date_of(day, &date):
        return text.add(b"19700101000000", 14)
    text.add_padded(date.year, 4, 48)
    text.add_padded(date.month + 1, 2, 48)
    text.add_padded(date.day, 2, 48)
    text.add_padded(second // 3600, 2, 48)
    text.add_padded(second // 60 % 60, 2, 48)
    text.add_padded(second % 60, 2, 48)
    return 0


def list_lines(entries, double now, owner=str, group=str) -> str:
    cdef Text text = Text()
    cdef Status status, last = None
    cdef str prefix = ""
    cdef double start = now - HALF_A_YEAR, end = now + 60
    for name, found, target in entries:
        if type(found) is not Status:
            return twin.list_lines(entries, now, owner, group)
        status = <Status>found
        if (
            last is None
            or status.st_mode != last.st_mode
            or status.st_nlink != last.st_nlink
            or status.st_uid != last.st_uid
            or status.st_gid != last.st_gid
        ):
            prefix = twin.list_prefix(
                status.st_mode, status.st_nlink, status.st_uid, status.st_gid, owner, group
            )
            last = status
        text.add_text(prefix)
        text.add_number(status.st_size, 8)
        text.add(b" ", 1)
        add_list_time(text, status.seconds, start < status.seconds <= end)
        text.add(b" ", 1)
        text.add_name(name, twin.printable)
        if target is not None:
            text.add(b" -> ", 4)
            text.add_name(target, twin.printable)
        text.add(b"\r\n", 2)
    return text.text()


def fact_lines(entries, perm, facts=twin.FACTS) -> str:
    cdef Text text = Text()
    cdef Status status, last = None
    cdef str head = "", device = "", tail = ""
    for name, found, target in entries:
        if type(found) is not Status or facts is not twin.FACTS:
            text.add_text(twin.fact_line(name, found, perm(found.st_mode), facts))
            text.add(b"\r\n", 2)
            continue
        status = <Status>found
        if (
            last is None
            or status.st_mode != last.st_mode
            or status.st_uid != last.st_uid
            or status.st_gid != last.st_gid
            or status.st_dev != last.st_dev
        ):
            head, device, tail = twin.facts_around(
                status.st_mode, status.st_uid, status.st_gid, perm(status.st_mode), status.st_dev
            )
            last = status
        text.add_text(head)
        text.add_number(status.st_size, 0)
        text.add(b";modify=", 8)
        add_timestamp(text, status.seconds)
        text.add_text(device)
        text.add_hex(status.st_ino)
        text.add_text(tail)
        text.add_name(name, twin.printable)
        text.add(b"\r\n", 2)
    return text.text()


def name_lines(entries, str prefix="") -> str:
    cdef Text text = Text()
    for entry in entries:
        text.add_text(prefix)
        text.add_name(entry[0], twin.printable)
        text.add(b"\r\n", 2)
    return text.text()
