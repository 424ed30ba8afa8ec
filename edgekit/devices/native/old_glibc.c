/* Lets a runner that was linked against glibc 2.34 or newer start on older ones, down to Debian 11 and
   before.

   Version 2.34 moved dlopen and its like out of libdl and gave them, and the start of a program, new
   versions; the old ones are still there, and all that is needed. The linker gets `--wrap` for each, and
   libdl.so.2, where older systems have them. Old versions of __libc_start_main run the program's constructors
   only where they are given them, and new start files give none: this program has none either. */

#if defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#elif defined(__x86_64__)
#define OLDEST "GLIBC_2.2.5"
#else
#error "there is no oldest glibc for this machine here"
#endif

#define OLD(name) __asm__(".symver old_" #name "," #name "@" OLDEST)

OLD(dlopen);
OLD(dlsym);
OLD(dlerror);
OLD(__libc_start_main);

typedef int Main(int count, char **arguments, char **environment);
typedef void Function(void);

void *old_dlopen(const char *path, int mode);
void *old_dlsym(void *handle, const char *name);
char *old_dlerror(void);
int old___libc_start_main(Main *, int, char **, Function *, Function *, Function *, void *);

void *__wrap_dlopen(const char *path, int mode);
void *__wrap_dlsym(void *handle, const char *name);
char *__wrap_dlerror(void);
int __wrap___libc_start_main(Main *, int, char **, Function *, Function *, Function *, void *);

void *__wrap_dlopen(const char *path, int mode) {
    return old_dlopen(path, mode);
}

void *__wrap_dlsym(void *handle, const char *name) {
    return old_dlsym(handle, name);
}

char *__wrap_dlerror(void) {
    return old_dlerror();
}

int __wrap___libc_start_main(Main *program, int count, char **arguments, Function *init, Function *fini,
                             Function *end, void *stack) {
    return old___libc_start_main(program, count, arguments, init, fini, end, stack);
}
