// Memory for packed weights: taken in large pieces, in pages of 2 MB where the system has them.
//
// Fresh pages of 4 KB are what packing a model mostly costs; pages of 2 MB are also found faster by every step that
// reads them. Under the address sanitizer every matrix has an allocation of its own, so that no overrun goes unseen.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#include <sys/mman.h>
#define RAISON_MAPPED 1
#endif

namespace raison {

class Arena {
  public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() {
        for (const Piece& piece : pieces_) give_back(piece);
    }

    // Aligned to a cache line, and good as long as the arena.
    char* take(size_t bytes) {
        bytes = (bytes + LINE - 1) / LINE * LINE;
        if (pieces_.empty() || pieces_.back().size - used_ < bytes) {
            pieces_.push_back(fresh(bytes));
            used_ = 0;
        }
        char* const found = pieces_.back().start + used_;
        used_ += bytes;
        return found;
    }

  private:
    static constexpr size_t LINE = 64, HUGE_PAGE = 2u << 20, PIECE = 64u << 20;
    struct Piece {
        char* start;
        size_t size;
        void* mapping;  // null: from operator new
        size_t mapped;
    };

    static Piece fresh(size_t bytes) {
#if defined(RAISON_MAPPED)
        const size_t size = bytes < PIECE ? PIECE : bytes, mapped = size + HUGE_PAGE;
        void* const mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping == MAP_FAILED) throw std::bad_alloc();
        char* const start = (char*)(((size_t)mapping + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
        madvise(start, size, MADV_HUGEPAGE);  // a wish: without it the pages are small
        return {start, size, mapping, mapped};
#else
        return {static_cast<char*>(::operator new[](bytes, std::align_val_t(LINE))), bytes, nullptr, 0};
#endif
    }

    static void give_back(const Piece& piece) {
#if defined(RAISON_MAPPED)
        munmap(piece.mapping, piece.mapped);
#else
        ::operator delete[](piece.start, std::align_val_t(LINE));
#endif
    }

    std::vector<Piece> pieces_;
    size_t used_ = 0;
};

}  // namespace raison
