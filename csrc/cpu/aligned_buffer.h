// Scratch memory of a kernel, aligned to a cache line at least.
//
// A large buffer is a mapping of its own, so that it goes back to the system at once: the C library would keep it (glibc
// raises its limit for mappings with the first one freed), and a scan of many blocks would hold several times its budget.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <new>
#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#define MEMFAST_MAPPED_BUFFERS 1
#endif

namespace memfast {

class AlignedBuffer {
  public:
    explicit AlignedBuffer(int64_t bytes) : bytes_((bytes + 127) / 64 * 64) {
#if MEMFAST_MAPPED_BUFFERS
        if (bytes_ >= kMapped) {
            data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (data_ == MAP_FAILED) throw std::bad_alloc();
            return;
        }
#endif
        data_ = std::aligned_alloc(64, bytes_);
        if (!data_) throw std::bad_alloc();
    }
    ~AlignedBuffer() {
#if MEMFAST_MAPPED_BUFFERS
        if (bytes_ >= kMapped) {
            munmap(data_, bytes_);
            return;
        }
#endif
        std::free(data_);
    }
    AlignedBuffer(const AlignedBuffer&) = delete;
    AlignedBuffer& operator=(const AlignedBuffer&) = delete;
    char* data() const { return static_cast<char*>(data_); }

  private:
    static constexpr int64_t kMapped = 1 << 20;
    const int64_t bytes_;
    void* data_;
};

}  // namespace memfast
