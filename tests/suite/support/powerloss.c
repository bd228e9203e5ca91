/* What a disk would still hold if the power failed now, for a process that this library is loaded into.
 *
 * After each fsync or fdatasync that succeeded, the file's content is copied to POWERLOSS_SHADOW/file-INODE; after
 * one of a directory, its listing to POWERLOSS_SHADOW/list-INODE, a line `INODE KIND NAME` per entry. So a content
 * is there as of its last sync, and a name as of the last sync of its directory: all that POSIX promises. The copy
 * is made before the caller is told that its sync succeeded. Only what lies below POWERLOSS_ROOT is copied.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

/* A shadow that is not complete would make a lost write look like ours, or hide one: the process ends instead. */
static void need(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "powerloss: %s failed\n", what);
    abort();
}

static void copy(const char *from, FILE *to) {
    char block[65536];
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    need(fd >= 0, "open");
    for (ssize_t got; (got = read(fd, block, sizeof block)) > 0;)
        need(fwrite(block, 1, (size_t)got, to) == (size_t)got, "write");
    close(fd);
}

static void list(const char *path, FILE *to) {
    DIR *directory = opendir(path);
    need(directory != NULL, "opendir");
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            fprintf(to, "%llu %s %s\n", (unsigned long long)entry->d_ino, entry->d_type == DT_DIR ? "list" : "file",
                    entry->d_name);
    closedir(directory);
}

static void keep(int fd) {
    const char *root = getenv("POWERLOSS_ROOT"), *shadow = getenv("POWERLOSS_SHADOW");
    char link[64], path[PATH_MAX], name[PATH_MAX], draft[PATH_MAX + 8];
    struct stat about;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!root || !shadow || length < 0 || fstat(fd, &about) != 0) return;
    path[length] = 0;
    if (strncmp(path, root, strlen(root)) != 0 || about.st_nlink == 0) return;
    int is_directory = S_ISDIR(about.st_mode);
    snprintf(name, sizeof name, "%s/%s-%llu", shadow, is_directory ? "list" : "file", (unsigned long long)about.st_ino);
    snprintf(draft, sizeof draft, "%s.draft", name);
    FILE *to = fopen(draft, "we");
    need(to != NULL, "fopen");
    if (is_directory) list(path, to); else copy(path, to);
    need(fclose(to) == 0 && rename(draft, name) == 0, "rename");
}

static int synced(const char *which, int fd) {
    pthread_mutex_lock(&one_at_a_time);
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, which);
    int result = real(fd);
    if (result == 0) keep(fd);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
