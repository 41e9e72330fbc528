// What the processor can do, by cpuid, and which level is in use.
#include "cpu/isa.h"

#include <atomic>
#include <stdexcept>
#if MEMFAST_X86
#include <cpuid.h>
#endif

namespace memfast {
namespace {

#if MEMFAST_X86
bool supports_f16c() {  // __builtin_cpu_supports knows the name from GCC 11 on
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
bool supports_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && supports_f16c(); }
bool supports_avx512() {
    return supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

std::atomic<int> chosen{-1};  // -1: the best

}  // namespace

Isa best_isa() {
#if MEMFAST_X86
    static const Isa best = supports_avx512() ? Isa::avx512 : supports_avx2() ? Isa::avx2 : Isa::portable;
    return best;
#else
    return Isa::portable;
#endif
}

Isa current_isa() {
    const int level = chosen.load(std::memory_order_relaxed);
    return level < 0 ? best_isa() : static_cast<Isa>(level);
}

void set_isa(const std::string& name) {
    if (name == "best") {
        chosen = -1;
        return;
    }
    for (int level = 0; level <= static_cast<int>(best_isa()); ++level) {
        if (name == isa_name(static_cast<Isa>(level))) {
            chosen = level;
            return;
        }
    }
    throw std::invalid_argument("instruction set '" + name + "' is unknown or not on this processor");
}

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::avx512: return "avx512";
        case Isa::avx2: return "avx2";
        default: return "portable";
    }
}

bool has_avx512_vnni() {
#if MEMFAST_X86
    static const bool has = supports_avx512() && __builtin_cpu_supports("avx512vnni");
    return has && current_isa() == Isa::avx512;
#else
    return false;
#endif
}

std::vector<std::string> cpu_features() {
    std::vector<std::string> names;
#if MEMFAST_X86
    if (__builtin_cpu_supports("avx2")) names.emplace_back("avx2");
    if (__builtin_cpu_supports("fma")) names.emplace_back("fma");
    if (supports_f16c()) names.emplace_back("f16c");
    if (supports_avx512()) names.emplace_back("avx512");
    if (__builtin_cpu_supports("avx512vnni")) names.emplace_back("avx512_vnni");
#endif
    return names;
}

}  // namespace memfast
