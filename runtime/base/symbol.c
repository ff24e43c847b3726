/* Names of code addresses: see symbol.h. The file of a module is mapped for one look and nothing of it is kept;
 * whatever it says of offsets and sizes is checked against its length. */
#include "runtime/base/symbol.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
    const char *data;
    size_t size;
};

/* A piece of the file, NULL if it does not lie in it. */
static const void *piece(const struct file *file, uint64_t offset, uint64_t size) {
    return offset <= file->size && size <= file->size - offset ? file->data + offset : NULL;
}

static const Elf64_Sym *search(const struct file *file, const Elf64_Shdr *table,
                               const Elf64_Shdr *names, uint64_t at, const char **name) {
    const Elf64_Sym *symbols = piece(file, table->sh_offset, table->sh_size);
    const char *strings = piece(file, names->sh_offset, names->sh_size);
    if (symbols == NULL || strings == NULL || names->sh_size == 0 ||
        strings[names->sh_size - 1] != 0) {
        return NULL;
    }
    for (uint64_t i = 0; i < table->sh_size / sizeof symbols[0]; i++) {
        const Elf64_Sym *s = &symbols[i];
        if (ELF64_ST_TYPE(s->st_info) == STT_FUNC && s->st_shndx != SHN_UNDEF &&
            at >= s->st_value && at - s->st_value < s->st_size && s->st_name < names->sh_size) {
            *name = strings + s->st_name;
            return s;
        }
    }
    return NULL;
}

/* Looks `at`, an offset from where the module was loaded, up; true if a function was found. */
static bool file_symbol(const struct file *file, uintptr_t base, uintptr_t address, char *name,
                        size_t size, uint64_t *offset) {
    const Elf64_Ehdr *header = piece(file, 0, sizeof *header);
    if (header == NULL || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_shentsize != sizeof(Elf64_Shdr)) {
        return false;
    }
    const Elf64_Shdr *sections =
        piece(file, header->e_shoff, (uint64_t)header->e_shnum * sizeof *sections);
    uint64_t at = header->e_type == ET_EXEC ? address : address - base;
    for (unsigned i = 0; sections != NULL && i < header->e_shnum; i++) {
        const char *found;
        if (sections[i].sh_type != SHT_SYMTAB || sections[i].sh_link >= header->e_shnum) {
            continue;
        }
        const Elf64_Sym *s =
            search(file, &sections[i], &sections[sections[i].sh_link], at, &found);
        if (s != NULL) {
            (void)snprintf(name, size, "%s", found);
            *offset = at - s->st_value;
            return true;
        }
    }
    return false;
}

/* The program's own name may be relative to a folder that is no longer the present one. */
static int module_open(const Dl_info *info) {
    uintptr_t headers = (uintptr_t)getauxval(AT_PHDR);
    bool program = headers != 0 && headers - (uintptr_t)info->dli_fbase < 4096;
    return open(program ? "/proc/self/exe" : info->dli_fname, O_RDONLY | O_CLOEXEC);
}

static bool static_symbol(const Dl_info *info, uintptr_t address, char *name, size_t size,
                          uint64_t *offset) {
    int fd = module_open(info);
    if (fd < 0) {
        return false;
    }
    struct stat status;
    bool found = false;
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
        struct file file = {NULL, (size_t)status.st_size};
        void *data = mmap(NULL, file.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data != MAP_FAILED) {
            file.data = data;
            found = file_symbol(&file, (uintptr_t)info->dli_fbase, address, name, size, offset);
            (void)munmap(data, file.size);
        }
    }
    (void)close(fd);
    return found;
}

void pica__symbol(const void *address, char *text, size_t size) {
    Dl_info info;
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL) {
        (void)snprintf(text, size, "%p", address);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    const char *module = slash == NULL ? info.dli_fname : slash + 1;
    unsigned long in_module = (unsigned long)((uintptr_t)address - (uintptr_t)info.dli_fbase);
    /* The file's own table knows static functions, which dladdr would call by the name of a neighbour. */
    char name[80];
    uint64_t offset = 0;
    if (static_symbol(&info, (uintptr_t)address, name, sizeof name, &offset)) {
        (void)snprintf(text, size, "%s+0x%lx (%s+0x%lx)", name, (unsigned long)offset, module,
                       in_module);
    } else if (info.dli_sname != NULL) {
        (void)snprintf(text, size, "%s+0x%lx (%s+0x%lx)", info.dli_sname,
                       (unsigned long)((uintptr_t)address - (uintptr_t)info.dli_saddr), module,
                       in_module);
    } else {
        (void)snprintf(text, size, "%s+0x%lx", module, in_module);
    }
}
