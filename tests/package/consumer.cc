// A user's program, in C++: a lambda is a coroutine too.
#include <pica.h>

#include <string>

int main() {
    std::string name = "pica";
    int result = pica_run(
        [](void *arg) -> int {
            int slept = pica_sleep(0.001);
            return slept < 0 ? slept : static_cast<int>(static_cast<std::string *>(arg)->size());
        },
        &name);
    return result == 4 ? 0 : 1;
}
