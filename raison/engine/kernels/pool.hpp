// Threads that share out the parts of one piece of work after the other, a few microseconds each.
//
// Whoever is on a core takes the next part, and nobody waits for a thread that has begun none: beside other programs a
// thread may be off its core for milliseconds, hundreds of pieces long. The caller can do without help altogether, so
// helpers are only ever asked: a lost call costs speed alone, and so does a system that has no more threads, or a fork,
// whose child has none of them. Not covered: work that throws.
#pragma once

#include <immintrin.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>

namespace raison {

class Pool {
  public:
    // The one pool of the process. It is never destroyed: its threads sleep until the process ends.
    static Pool& shared() {
        static Pool* pool = new Pool;
        return *pool;
    }

    // Calls work(0) ... work(parts - 1), each once, on up to `threads` threads; the caller is one of them, and the only
    // one while the pool works for somebody else or its help costs more than it brings.
    template <class Work>
    void run(int threads, int parts, const Work& work) {
        const int helpers = std::min({threads, parts, MOST_HELPERS + 1}) - 1;
        if (helpers < 1 || parts > MOST_PARTS || taken_.exchange(true, std::memory_order_acquire)) return alone(parts, work);
        const Clock::time_point begun = Clock::now();
        if (begun < alone_until_) alone(parts, work);
        else together(helpers, parts, work, begun);
        taken_.store(false, std::memory_order_release);
    }

  private:
    using Clock = std::chrono::steady_clock;
    using Seconds = std::chrono::duration<double>;
    static constexpr int MOST_HELPERS = 0xff, MOST_PARTS = 0xffffff, CALLER = -1;
    static constexpr auto IDLE = std::chrono::microseconds(400);    // a helper's waiting for work before it sleeps
    static constexpr auto STALL = std::chrono::microseconds(100);   // the caller's, for parts that helpers have begun
    static constexpr auto WINDOW = std::chrono::milliseconds(100);  // in which longer waits than these are added up
    static constexpr double DEAR = 0.4;                             // of the time lost so: one thread is as fast then
    static constexpr int PAUSE = 20;                                // times what was lost, before help is tried again
    static constexpr auto CALLS = std::chrono::milliseconds(1);     // between calls to helpers that sleep

    // The pieces of work are numbered in `offer_`'s upper half; below are helpers (8 bits) and parts that are left (24).
    static int left(uint64_t offer) { return (int)(offer & MOST_PARTS); }
    static int wanted(uint64_t offer) { return (int)(offer >> 24 & MOST_HELPERS); }

    template <class Work>
    static void alone(int parts, const Work& work) {
        for (int part = 0; part < parts; part++) work(part);
    }

    template <class Work>
    void together(int helpers, int parts, const Work& work, Clock::time_point begun) {
        offer(helpers, parts, [](const void* of, int part) { (*static_cast<const Work*>(of))(part); }, &work);
        work(parts - 1);
        int done = 1;
        for (uint64_t seen; take(seen, CALLER); done++) call(helpers);
        if (pending_.fetch_sub(done, std::memory_order_acq_rel) > done && !finished()) await(begun);
    }

    void offer(int helpers, int parts, void (*work)(const void*, int), const void* of) {
        start(helpers);
        work_ = work, of_ = of;
        pending_.store(parts, std::memory_order_relaxed);
        if (const int core = sched_getcpu(); core != core_.load(std::memory_order_relaxed)) core_.store(core);
        const uint64_t number = (offer_.load(std::memory_order_relaxed) >> 32) + 1;
        offer_.store(number << 32 | (uint64_t)helpers << 24 | (uint64_t)(parts - 1), std::memory_order_release);
        call(helpers);
    }

    // Has so many helpers, or as many as the system lets it have.
    void start(int helpers) {
        try {
            for (; started_ < std::min(helpers, most_); started_++) std::thread(&Pool::serve, this, started_).detach();
        } catch (const std::system_error&) {
            most_ = started_;
        }
    }

    // Again and again while there are parts: who fell asleep beside the first call is needed for a long piece. The first
    // are wanted most often, so who sleeps while enough are awake is one of those that are not wanted.
    void call(int helpers) {
        if (started_ - asleep_.load(std::memory_order_relaxed) >= std::min(helpers, started_)) return;
        const Clock::time_point now = Clock::now();
        if (now - called_ < CALLS) return;
        called_ = now;
        calls_.fetch_add(1, std::memory_order_release);
        calls_.notify_all();
    }

    // Whether there was a part for helper `index`, which is done now. A part that was taken keeps its piece of work alive.
    bool take(uint64_t& seen, int index) {
        seen = offer_.load(std::memory_order_acquire);
        while (left(seen) > 0 && index < wanted(seen)) {
            if (!offer_.compare_exchange_weak(seen, seen - 1, std::memory_order_acquire)) continue;
            work_(of_, left(seen) - 1);
            return true;
        }
        return false;
    }

    // Whether the helpers' last parts are done, within a microsecond or so.
    bool finished() const {
        for (int spin = 0; spin < 64; spin++, _mm_pause())
            if (pending_.load(std::memory_order_acquire) == 0) return true;
        return false;
    }

    // Asleep after a while, since a helper may need this very core. A wait that is longer than the work itself means that
    // a helper has lost its core to another program in the midst of a part, and will again.
    void await(Clock::time_point begun) {
        const Clock::time_point waits = Clock::now();
        while (Clock::now() < waits + STALL)
            if (finished()) return;
        for (int left; (left = pending_.load(std::memory_order_acquire)) > 0;) pending_.wait(left);
        const Clock::time_point now = Clock::now();
        if (now - waits > waits - begun) lose(now - waits, now);
    }

    void lose(Clock::duration lost, Clock::time_point now) {
        if (now - counted_from_ > WINDOW) {
            lost_ = lost_ * (Seconds(WINDOW) / (now - counted_from_));
            counted_from_ = now - WINDOW;
        }
        lost_ += std::min<Clock::duration>(lost, WINDOW);  // a process that was stopped for an hour lost no more
        if (lost_ < DEAR * (now - counted_from_)) return;
        counted_from_ = alone_until_ = now + std::chrono::duration_cast<Clock::duration>(PAUSE * lost_);
        lost_ = {};
    }

    void serve(int index) {
        for (uint64_t seen;;) {
            while (take(seen, index))
                if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
            const uint32_t call = calls_.load(std::memory_order_acquire);
            if (comes(seen, index)) continue;
            asleep_.fetch_add(1, std::memory_order_relaxed);
            calls_.wait(call, std::memory_order_acquire);
            asleep_.fetch_sub(1, std::memory_order_relaxed);
        }
    }

    // Whether another offer for helper `index` comes while it is worth waiting for: not on the core that the caller itself
    // needs.
    bool comes(uint64_t after, int index) const {
        const Clock::time_point stop = Clock::now() + IDLE;
        while (Clock::now() < stop && sched_getcpu() != core_.load(std::memory_order_relaxed))
            for (int spin = 0; spin < 32; spin++, _mm_pause())
                if (const uint64_t now = offer_.load(std::memory_order_relaxed); now != after && index < wanted(now)) return true;
        return false;
    }

    // Each line of memory is written by one side at a time.
    alignas(64) std::atomic<uint64_t> offer_{0};
    alignas(64) std::atomic<int> pending_{0};
    void (*work_)(const void*, int) = nullptr;
    const void* of_ = nullptr;
    alignas(64) std::atomic<int> core_{-1}, asleep_{0};
    std::atomic<uint32_t> calls_{0};
    alignas(64) std::atomic<bool> taken_{false};  // and the caller's own, away from what idle helpers look at
    Clock::time_point called_{}, alone_until_{}, counted_from_{};
    Seconds lost_{0};
    int started_ = 0, most_ = MOST_HELPERS;
};

}  // namespace raison
