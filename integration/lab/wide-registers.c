/* Preloaded to Debian 12's user-mode Linux. It sets a process's registers with a buffer of the size that processors had when it was made; the kernel of a
 * host with more (AMX) wants a whole one, and refuses: the guest dies at its first process. Nothing in the guest can use those registers, so the rest of a
 * whole buffer is zeros, which is their state at start. Newer user-mode Linux asks for the size. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Static: the guest's kernel calls from stacks of its own, which are small, and from one thread. */
static unsigned char whole[64 * 1024];

static size_t whole_size(void) {
    static size_t size;
    unsigned a, enabled, c, d;
    if (!size && __get_cpuid_count(0xd, 0, &a, &enabled, &c, &d) && enabled <= sizeof whole) size = enabled;
    return size;
}

long ptrace(enum __ptrace_request request, ...) {
    static long (*next)(enum __ptrace_request, int, void *, void *);
    va_list rest;
    va_start(rest, request);
    int pid = va_arg(rest, int);
    void *address = va_arg(rest, void *), *data = va_arg(rest, void *);
    va_end(rest);
    if (!next) next = (long (*)(enum __ptrace_request, int, void *, void *))dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE) return next(request, pid, address, data);

    const struct iovec *given = data;
    size_t size = whole_size();
    if (given->iov_len >= size) return next(request, pid, address, data);
    memcpy(whole, given->iov_base, given->iov_len);
    memset(whole + given->iov_len, 0, size - given->iov_len);
    return next(request, pid, address, &(struct iovec){whole, size});
}
