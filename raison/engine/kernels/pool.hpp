// Threads that wait for work: spinning for a while, since steps follow each other closely, then asleep. Not covered: a
// process that forks after its first step.
#pragma once

#include <immintrin.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

namespace raison {

class Pool {
  public:
    // The one pool of the process. It is never destroyed: its threads sleep until the process ends.
    static Pool& shared() {
        static Pool* pool = new Pool;
        return *pool;
    }

    // Calls work(0) ... work(units - 1), each once, on up to `threads` threads; the caller is one of them.
    void run(int threads, int units, const std::function<void(int)>& work) {
        call(threads < units ? threads - 1 : units - 1, units, work);
    }

    // Calls work(0) ... work(threads - 1) at once, each on a thread of its own: they may wait for each other.
    void together(int threads, const std::function<void(int)>& work) {
        if (threads > 1) call(threads - 1, 0, work);
        else work(0);
    }

  private:
    // With `units` 0 every thread has one call, of its own number.
    void call(int helpers, int units, const std::function<void(int)>& work) {
        const std::lock_guard<std::mutex> one(running_);
        next_.store(0, std::memory_order_relaxed);
        if (helpers > 0) {
            while (started_ < helpers) std::thread(&Pool::serve, this, started_++).detach();
            work_ = &work;
            units_ = units;
            pending_.store(helpers, std::memory_order_relaxed);
            const uint32_t round = (round_.load(std::memory_order_relaxed) >> 8) + 1;
            round_.store(round << 8 | (uint32_t)helpers, std::memory_order_release);
            round_.notify_all();
        }
        units ? take(work, units) : work(0);
        for (int spins = 0; helpers > 0 && pending_.load(std::memory_order_acquire) > 0; spins++)
            spins < SPINS ? _mm_pause() : std::this_thread::yield();
    }

    static constexpr int SPINS = 20000;

    void take(const std::function<void(int)>& work, int units) {
        for (int unit; (unit = next_.fetch_add(1, std::memory_order_relaxed)) < units;) work(unit);
    }

    // `round_` counts the calls, and in its low byte says how many threads the call wants.
    void serve(int index) {
        for (uint32_t seen = 0;;) {
            uint32_t now = round_.load(std::memory_order_acquire);
            for (int spins = 0; now == seen && spins < SPINS; spins++) {
                _mm_pause();
                now = round_.load(std::memory_order_acquire);
            }
            if (now == seen) {
                round_.wait(seen, std::memory_order_acquire);
                continue;
            }
            seen = now;
            if (index >= (int)(now & 255)) continue;
            units_ ? take(*work_, units_) : (*work_)(index + 1);
            pending_.fetch_sub(1, std::memory_order_acq_rel);
        }
    }

    std::mutex running_;
    std::atomic<uint32_t> round_{0};
    std::atomic<int> next_{0}, pending_{0};
    const std::function<void(int)>* work_ = nullptr;
    int units_ = 0, started_ = 0;
};

}  // namespace raison
