/* Builds a filter by libseccomp from orders on standard input, and writes it to standard output.
 *
 *   default ACTION
 *   arch NAME
 *   rule ACTION SYSCALL COUNT { INDEX OPERATOR FIRST SECOND }
 */
#include <errno.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    char word[64], name[64];
    scmp_filter_ctx filter = NULL;

    while (scanf("%63s", word) == 1) {
        if (strcmp(word, "default") == 0) {
            unsigned action;
            if (scanf("%u", &action) != 1)
                return 2;
            filter = seccomp_init(action);
            if (filter == NULL)
                return 3;
        } else if (strcmp(word, "arch") == 0) {
            if (scanf("%63s", name) != 1)
                return 2;
            int error = seccomp_arch_add(filter, seccomp_arch_resolve_name(name));
            if (error != 0 && error != -EEXIST)
                return 4;
        } else {
            unsigned action, count;
            struct scmp_arg_cmp args[6];
            if (scanf("%u %63s %u", &action, name, &count) != 3 || count > 6)
                return 2;
            for (unsigned i = 0; i < count; i++) {
                unsigned index, op;
                unsigned long long first, second;
                if (scanf("%u %u %llu %llu", &index, &op, &first, &second) != 4)
                    return 2;
                args[i].arg = index;
                args[i].op = (enum scmp_compare)op;
                args[i].datum_a = first;
                args[i].datum_b = second;
            }
            int number = seccomp_syscall_resolve_name(name);
            if (number == __NR_SCMP_ERROR)
                continue;
            int error = seccomp_rule_add_array(filter, action, number, count, args);
            if (error != 0 && error != -EEXIST) {
                fprintf(stderr, "%s: %s\n", name, strerror(-error));
                return 5;
            }
        }
    }
    return filter == NULL || seccomp_export_bpf(filter, 1) != 0;
}
