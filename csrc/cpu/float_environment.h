// IEEE arithmetic, whatever mode the calling thread is in: round to nearest even, subnormal numbers kept, no traps.
//
// A caller may have switched on flush-to-zero (torch.set_flush_denormal) or another rounding, and a thread keeps the mode
// of whoever started it. Every kernel runs inside such an object, on its calling thread and on each worker, so that bits
// depend on neither. docs/exactness.md says what this protects.
#pragma once
#include <cstdint>
#if defined(__SSE2__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

namespace memfast {

class FloatEnvironment {
  public:
    FloatEnvironment() : saved_(read()) { write(kPlain); }
    ~FloatEnvironment() { write(saved_); }
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;

  private:
#if defined(__SSE2__)
    using State = unsigned;
    static constexpr State kPlain = 0x1f80;  // MXCSR after a reset: exceptions masked, neither FTZ nor DAZ
    static State read() { return _mm_getcsr(); }
    static void write(State state) { _mm_setcsr(state); }
#elif defined(__aarch64__)
    using State = uint64_t;
    static constexpr State kPlain = 0;  // FPCR after a reset
    static State read() {
        State state;
        asm volatile("mrs %0, fpcr" : "=r"(state));
        return state;
    }
    static void write(State state) { asm volatile("msr fpcr, %0" : : "r"(state) : "memory"); }
#else
    using State = int;  // C++ knows the rounding only
    static constexpr State kPlain = FE_TONEAREST;
    static State read() { return std::fegetround(); }
    static void write(State state) { std::fesetround(state); }
#endif

    const State saved_;
};

}  // namespace memfast
