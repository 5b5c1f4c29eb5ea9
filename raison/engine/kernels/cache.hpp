// The paged cache in 32 or 16 bits a number: where a token's parts stand, how they are read and written.
//
// A line of the cache is what one token keeps of one layer. It has parts that are read one at a time: a head's key or value,
// or the latent as a whole. Within a page the same part of all tokens stands together, so that a head reads memory from
// front to back. A key of grouped-query attention stands in columns: the first number of all tokens of the page, then the
// second. A latent, which is key and value at once, stands in lines. No one else needs to know this order: engine/cache.py
// copies pages whole.
//
// 16 bits are IEEE's half, not bfloat16: keys, values and latents lie far within its range (normed, rotated, or products of
// normed rows), where it keeps 11 bits instead of 8; AVX2 and AVX-512 both convert it as they load. What is beyond +-65504
// becomes that.
#pragma once

#include "simd.hpp"

namespace raison {

struct Half {
    uint16_t bits;
};

constexpr float HALF_MOST = 65504.0f;

inline Vec load(const Half* p) { return load_halves((const char*)p); }

// A whole vector, or its first `count` numbers and zeros.
template <bool WHOLE, class Number>
inline Vec load_first(const Number* p, int count) {
    if (WHOLE) return load(p);
    Number some[LANES] = {};
    std::memcpy(some, p, count * sizeof(Number));
    return load(some);
}

inline void keep(const float* from, int n, float* to) { std::memcpy(to, from, n * 4); }

// NaN stays NaN, so that a broken model is noticed.
inline void keep(const float* from, int n, Half* to) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        Vec x = load(from + i);
        x = x > HALF_MOST ? all(HALF_MOST) : x;
        store_halves((char*)(to + i), x < -HALF_MOST ? all(-HALF_MOST) : x);
    }
    for (; i < n; i++) {
        const float x = from[i] > HALF_MOST ? HALF_MOST : from[i] < -HALF_MOST ? -HALF_MOST : from[i];
        to[i].bits = to_half(x);
    }
}

// As a column, whose numbers are `step` apart.
template <class Number>
inline void keep_column(const float* from, int n, int step, Number* to) {
    for (int i = 0; i < n; i += LANES) {
        Number some[LANES];
        const int count = n - i < LANES ? n - i : LANES;
        keep(from + i, count, some);
        for (int j = 0; j < count; j++) to[(int64_t)(i + j) * step] = some[j];
    }
}

// Of one layer: `parts` of `width` numbers a token.
struct Layout {
    int page_size, parts, width;
    int64_t page() const { return (int64_t)page_size * parts * width; }
    int64_t part(int index) const { return (int64_t)index * page_size * width; }
};

// A part of the tokens of one sequence: `first` is where it begins in page 0 of the layer.
template <class Number>
struct Part {
    const Number* first;
    const int64_t* pages;
    int page_size, width;
    int64_t page;

    // The first number of a token whose part is a column.
    const Number* column(int t) const { return first + pages[t / page_size] * page + t % page_size; }

    // work(numbers of token `start`, start, stop, those of the page after it or null): tokens [from, to) page by page.
    template <class Work>
    void each_page(int from, int to, const Work& work) const {
        for (int start = from; start < to;) {
            const int index = start / page_size, stop = to < (index + 1) * page_size ? to : (index + 1) * page_size;
            const Number* next = stop < to ? first + pages[index + 1] * page : nullptr;
            work(first + pages[index] * page + (int64_t)(start - index * page_size) * width, start, stop, next);
            start = stop;
        }
    }
};

}  // namespace raison
