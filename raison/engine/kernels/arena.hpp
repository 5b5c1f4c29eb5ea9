// Memory for packed weights: taken in large pieces, in pages of 2 MB where the system has them.
//
// Fresh pages are what packing a model mostly costs, so that a piece can be made ready by a thread of its own while other
// things are done. Pages of 2 MB are also found faster by every step that reads them. Under the address sanitizer every
// matrix has an allocation of its own, so that no overrun goes unseen.
#pragma once

#include <cstddef>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#include <sys/mman.h>
#define RAISON_MAPPED 1
#endif

namespace raison {

constexpr size_t LINE = 64, SMALL_PAGE = 4096, HUGE_PAGE = 2u << 20, PIECE = 64u << 20;

// Memory that is given back with the object.
class Piece {
  public:
    Piece() = default;
    explicit Piece(size_t bytes) {
#if defined(RAISON_MAPPED)
        size_ = bytes < PIECE ? PIECE : bytes, mapped_ = size_ + HUGE_PAGE;
        mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping_ == MAP_FAILED) throw std::bad_alloc();
        start_ = (char*)(((size_t)mapping_ + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
        madvise(start_, size_, MADV_HUGEPAGE);  // a wish: without it the pages are small
#else
        size_ = bytes;
        start_ = static_cast<char*>(::operator new[](bytes, std::align_val_t(LINE)));
#endif
    }
    Piece(Piece&& other) noexcept { swap(other); }
    Piece& operator=(Piece&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Piece() {
        if (!start_) return;
#if defined(RAISON_MAPPED)
        munmap(mapping_, mapped_);
#else
        ::operator delete[](start_, std::align_val_t(LINE));
#endif
    }

    char* start() const { return start_; }
    size_t size() const { return size_; }

    // Has the system find the first `bytes` now.
    void touch(size_t bytes) const {
        for (size_t at = 0; at < bytes; at += SMALL_PAGE) *(volatile char*)(start_ + at) = 0;
    }

  private:
    void swap(Piece& other) {
        std::swap(start_, other.start_), std::swap(size_, other.size_);
        std::swap(mapping_, other.mapping_), std::swap(mapped_, other.mapped_);
    }
    char* start_ = nullptr;
    size_t size_ = 0;
    void* mapping_ = nullptr;
    size_t mapped_ = 0;
};

// One piece that is made ready ahead of time, for the next arena that needs as much.
class Reserve {
  public:
    static Reserve& shared() {
        static Reserve* reserve = new Reserve;
        return *reserve;
    }

    void warm(size_t bytes) {
#if defined(RAISON_MAPPED)
        const std::lock_guard<std::mutex> one(changing_);
        finish();
        try {
            piece_ = Piece(bytes);
            worker_ = std::thread([this, bytes] { piece_.touch(bytes); });
        } catch (const std::exception&) {
            // no memory: whoever packs will find out; no thread: the piece is good as it is
        }
#endif
    }

    // The piece, where there is one and it is large enough; else a fresh one.
    Piece take(size_t bytes) {
        const std::lock_guard<std::mutex> one(changing_);
        finish();
        return piece_.size() >= bytes ? std::exchange(piece_, Piece()) : Piece(bytes);
    }

  private:
    void finish() {
        if (worker_.joinable()) worker_.join();
    }
    std::mutex changing_;
    std::thread worker_;
    Piece piece_;
};

class Arena {
  public:
    // Aligned to a cache line, and good as long as the arena.
    char* take(size_t bytes) {
        bytes = (bytes + LINE - 1) / LINE * LINE;
        if (pieces_.empty() || pieces_.back().size() - used_ < bytes) {
            pieces_.push_back(Reserve::shared().take(bytes));
            used_ = 0;
        }
        char* const found = pieces_.back().start() + used_;
        used_ += bytes;
        return found;
    }

  private:
    std::vector<Piece> pieces_;
    size_t used_ = 0;
};

}  // namespace raison
