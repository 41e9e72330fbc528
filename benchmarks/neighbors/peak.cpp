// The most that this machine's multiply-add instructions give: chains that touch registers only, one per thread.
// Prints "name rate" in giga-operations per second (a multiply and an add are two) for each kind that it has.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr long kRounds = 8000000;

#define TWELVE(op, r)                                                                                        \
    op " %%" r "30,%%" r "31,%%" r "0;" op " %%" r "30,%%" r "31,%%" r "1;" op " %%" r "30,%%" r "31,%%" r "2;"  \
    op " %%" r "30,%%" r "31,%%" r "3;" op " %%" r "30,%%" r "31,%%" r "4;" op " %%" r "30,%%" r "31,%%" r "5;"  \
    op " %%" r "30,%%" r "31,%%" r "6;" op " %%" r "30,%%" r "31,%%" r "7;" op " %%" r "30,%%" r "31,%%" r "8;"  \
    op " %%" r "30,%%" r "31,%%" r "9;" op " %%" r "30,%%" r "31,%%" r "10;" op " %%" r "30,%%" r "31,%%" r "11;"

void vnni() { for (long i = 0; i < kRounds; ++i) asm volatile(TWELVE("vpdpbusd", "zmm")::); }
void fma512() { for (long i = 0; i < kRounds; ++i) asm volatile(TWELVE("vfmadd231ps", "zmm")::); }

#define PAIR(s) "vpmaddwd %%ymm14,%%ymm15,%%ymm12;vpaddd %%ymm12,%%ymm" s ",%%ymm" s ";"
void pairs256() {
    for (long i = 0; i < kRounds; ++i)
        asm volatile(PAIR("0") PAIR("1") PAIR("2") PAIR("3") PAIR("4") PAIR("5") PAIR("6") PAIR("7") PAIR("8")
                     PAIR("9") PAIR("10") PAIR("11")::);
}

void report(const char* name, void (*loop)(), double operations, int threads) {
    double best = 0;
    for (int repeat = 0; repeat < 3; ++repeat) {
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> others;
        for (int t = 1; t < threads; ++t) others.emplace_back(loop);
        loop();
        for (auto& thread : others) thread.join();
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const double rate = threads * kRounds * 12.0 * operations / seconds * 1e-9;
        best = rate > best ? rate : best;
    }
    std::printf("%s %.1f\n", name, best);
}

}  // namespace

int main(int, char** arguments) {
    const int threads = std::atoi(arguments[1]);
    if (__builtin_cpu_supports("avx512vnni")) report("int8_avx512vnni", vnni, 128, threads);
    if (__builtin_cpu_supports("avx512f")) report("float32_avx512", fma512, 32, threads);
    if (__builtin_cpu_supports("avx2")) report("int16_avx2", pairs256, 32, threads);
}
