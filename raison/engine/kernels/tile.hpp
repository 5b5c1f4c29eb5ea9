// The rows that go through the network together, and the threads that take them: what every part of a layer works on.
#pragma once

#include <atomic>
#include <thread>

#include "network.hpp"
#include "rows.hpp"

namespace raison {

constexpr int TILE = 64;  // rows that go through the network together

struct Step {
    int32_t rows, segments, threads, page_size;
    const int64_t *ids, *positions;      // [rows]
    const int64_t* starts;               // [segments + 1]: first row of each sequence
    const int64_t* slots;                // [segments]: its line in the table of pages
    const int64_t* blocks;               // [slots, blocks_stride]
    int64_t blocks_stride;
    void* cache;                         // [layers, pages, numbers of a page], of `cache_bits` each
    int64_t layer_stride;
    const int64_t* outputs;              // [rows]: where the row's logits go, or -1
    float* logits;                       // [outputs, logits_stride]
    int64_t logits_stride;
    const float* before;                 // [rows, hidden]: normed states that an MTP module goes on from
    float* states;                       // [rows, hidden]: where normed states go, or null
    int64_t cache_bits;                  // 32, 16: halves, or 8: bytes with scales
};

// What one thread of a team has for itself.
struct Member {
    int index = 0;
    Rows scores, head_rows;
    std::vector<In> in;
    std::vector<int> token;
    std::vector<float> weight, choice, group;
    std::vector<int64_t> line;
};

class Tile {
  public:
    const Model* model = nullptr;
    const Step* step = nullptr;
    int first = 0, count = 0, size = 1;   // rows of the step, and threads of the team
    const int64_t* pages[TILE] = {};      // of each row's sequence
    Rows x, normed;                       // the residual stream, and its norm

    // Where the team waits for each other; `members` before `size` is known to all.
    void meet() { meet(size); }
    void meet(int members) {
        if (members == 1) return;
        const uint32_t turn = turn_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
            arrived_.store(0, std::memory_order_relaxed);
            turn_.store(turn + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; spins++)
            spins < 1 << 14 ? _mm_pause() : std::this_thread::yield();
    }

    // The next rows, up to `stop`; `segment` is the first of them's and becomes the last one's.
    void take(int start, int stop, int& segment) {
        first = start;
        count = stop - start < TILE ? stop - start : TILE;
        for (int i = 0; i < count; i++) {
            while (start + i >= step->starts[segment + 1]) segment++;
            pages[i] = step->blocks + step->slots[segment] * step->blocks_stride;
        }
    }

    int64_t place(int i) const { return step->positions[first + i]; }
    int length(int i) const { return (int)place(i) + 1; }
    bool rounds() const { return model->rounds(); }

    // Neighbours go to one member: what they write may share a line of memory.
    template <class Work>
    void each_row(const Member& me, const Work& work) {
        for (int i = count * me.index / size; i < count * (me.index + 1) / size; i++) work(i);
    }

    template <class Out>
    void project(Member& me, const Matrix& w, Rows& rows, const Out& out) {
        product(w, inputs(me, rows), count, out, me.index, size);
    }

    In* inputs(Member& me, Rows& rows) {
        me.in.resize(count);
        for (int i = 0; i < count; i++) me.in[i] = rows.in(i);
        return me.in.data();
    }

    void norm_rows(Member& me, const float* weight) {
        each_row(me, [&](int i) {
            normalise(x.row(i), weight, model->s.hidden, model->s.epsilon, normed.row(i));
            if (rounds()) normed.round(i);
        });
        meet();
    }

  private:
    std::atomic<int> arrived_{0};
    std::atomic<uint32_t> turn_{0};
};

}  // namespace raison
