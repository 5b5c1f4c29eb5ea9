// The rows that go through the network together, and the threads that take them: what every part of a layer works on.
#pragma once

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

// What one thread has for itself.
struct Member {
    Rows scores, head_rows;
    std::vector<In> in;
    std::vector<float> choice, group;
};

class Tile {
  public:
    const Model* model = nullptr;
    const Step* step = nullptr;
    int first = 0, count = 0, size = 1;   // rows of the step, and threads that take them
    const int64_t* pages[TILE] = {};      // of each row's sequence
    Rows x, normed;                       // the residual stream, and its norm

    // work(me, part) of each of `parts`, by default one a thread, on whichever threads are there; done when it returns.
    template <class Work>
    void share(int parts, const Work& work) {
        Pool::shared().run(size, parts, [&](int part) { work(mine(), part); });
    }
    template <class Work>
    void share(const Work& work) { share(size, work); }

    static Member& mine() {
        static thread_local Member me;
        return me;
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

    // Neighbours go to one thread: what they write may share a line of memory.
    template <class Work>
    void each_row(const Work& work) { each(count, work); }
    template <class Work>
    void each(int items, const Work& work) {
        const int parts = std::min(size, items);
        share(parts, [&](Member&, int part) {
            for (int i = items * part / parts; i < items * (part + 1) / parts; i++) work(i);
        });
    }

    template <class Out>
    void project(const Matrix& w, Rows& rows, const Out& out) {
        const In* in = inputs(in_, rows);
        share([&](Member&, int part) { product(w, in, count, out, part, size); });
    }

    In* inputs(std::vector<In>& in, Rows& rows) {
        in.resize(count);
        for (int i = 0; i < count; i++) in[i] = rows.in(i);
        return in.data();
    }

    void norm_rows(const float* weight) {
        each_row([&](int i) {
            normalise(x.row(i), weight, model->s.hidden, model->s.epsilon, normed.row(i));
            if (rounds()) normed.round(i);
        });
    }

  private:
    std::vector<In> in_;
};

}  // namespace raison
