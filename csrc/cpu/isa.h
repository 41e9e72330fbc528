// Run-time choice of the instruction set. Levels are ordered: each includes the ones before it.
#pragma once
#include <string>
#include <vector>

namespace memfast {

enum class Isa { portable = 0, avx2 = 1, avx512 = 2 };

Isa best_isa();                        // what the processor and the operating system support
Isa current_isa();                     // best_isa() unless set_isa() chose a lower one
void set_isa(const std::string& name);  // "portable", "avx2", "avx512" or "best"; throws std::invalid_argument
const char* isa_name(Isa isa);

// A feature beyond a level, asked for by the kernels that need it (true only where current_isa() allows).
bool has_avx512_vnni();
std::vector<std::string> cpu_features();

}  // namespace memfast
