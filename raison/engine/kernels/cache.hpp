// The paged cache in 32, 16 or 8 bits a number: where a token's parts stand, how they are read and written.
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
//
// 8 bits are groups of up to 128 numbers of a part, the largest of them at 127, and a float for each group that says what one
// is worth (engine/line.py). The floats of a page's part stand behind its bytes.
#pragma once

#include <type_traits>

#include "simd.hpp"

namespace raison {

struct Half {
    uint16_t bits;
};

struct Byte {
    int8_t value;
};

constexpr float HALF_MOST = 65504.0f;
constexpr int SCALED = 128;  // numbers of a group of bytes

inline Vec load(const Half* p) { return load_halves((const char*)p); }
inline Vec load(const Byte* p) { return load_bytes((const char*)p); }

inline float float_at(const char* p) {
    float x;
    std::memcpy(&x, p, 4);
    return x;
}

template <class Number>
constexpr bool IN_GROUPS = std::is_same_v<Number, Byte>;

// Bytes of the scales of a part of `width` numbers.
template <class Number>
constexpr int scale_bytes(int width) {
    return IN_GROUPS<Number> ? (width + SCALED - 1) / SCALED * 4 : 0;
}

// A whole vector, or its first `count` numbers and zeros.
template <bool WHOLE, class Number>
inline Vec load_first(const Number* p, int count) {
    if (WHOLE) return load(p);
    Number some[LANES] = {};
    std::memcpy(some, p, count * sizeof(Number));
    return load(some);
}

// Where a token keeps a part.
template <class Number>
struct Own {
    Number* numbers;
    char* scales;
};

// NaN stays NaN in all of them, so that a broken model is noticed.
inline void keep(const float* from, int n, Own<float> to) { std::memcpy(to.numbers, from, n * 4); }

inline void keep(const float* from, int n, Own<Half> own) {
    Half* to = own.numbers;
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

// A group of up to SCALED numbers as bytes; the sum of zeros is not zero where one of them is not finite.
inline void keep_group(const float* from, int n, int8_t* to, char* scale) {
    Vec most{}, zeros{};
    for (int i = 0; i < n; i += LANES) {
        const Vec x = n - i < LANES ? load_first<false>(from + i, n - i) : load(from + i);
        most = larger(most, larger(x, -x));
        zeros += x * 0.0f;
    }
    const float top = largest(most) + sum(zeros), inverse = top > 0 ? 127 / top : 0, worth = top / 127;
    std::memcpy(scale, &worth, 4);
    for (int i = 0; i < n; i += LANES) {
        int8_t some[LANES];
        const Vec x = n - i < LANES ? load_first<false>(from + i, n - i) : load(from + i);
        round_bytes(x, inverse, some);
        std::memcpy(to + i, some, n - i < LANES ? n - i : LANES);
    }
}

inline void keep(const float* from, int n, Own<Byte> to) {
    for (int i = 0; i < n; i += SCALED)
        keep_group(from + i, n - i < SCALED ? n - i : SCALED, &to.numbers[i].value, to.scales + i / SCALED * 4);
}

// As a column, whose numbers are `step` apart.
template <class Number>
inline void keep_column(const float* from, int n, int step, Own<Number> to) {
    for (int i = 0; i < n; i += SCALED) {
        Number some[SCALED];
        const int count = n - i < SCALED ? n - i : SCALED;
        keep(from + i, count, Own<Number>{some, to.scales + i / SCALED * 4});
        for (int j = 0; j < count; j++) to.numbers[(int64_t)(i + j) * step] = some[j];
    }
}

// Of one layer: `parts` of `width` numbers a token. Sizes are in numbers, and bytes' scales count as so many of them.
struct Layout {
    int page_size, parts, width;
    template <class Number>
    int64_t part() const {
        return (int64_t)page_size * (width + scale_bytes<Number>(width));
    }
    template <class Number>
    int64_t page() const {
        return parts * part<Number>();
    }

    // Where page 0 of `cache` keeps a part of its token `index`, a line or a column.
    template <class Number>
    Own<Number> own(Number* cache, int part_index, int64_t index, bool column) const {
        Number* first = cache + part_index * part<Number>();
        char* scales = (char*)(first + (int64_t)page_size * width);
        return {first + index * (column ? 1 : width), scales + index * scale_bytes<Number>(width)};
    }
};

// The same part of tokens that stand beside each other; in columns, `numbers` is where the first token's begins.
template <class Number>
struct Lines {
    const Number* numbers;
    const char* scales;
    int width;

    Lines from(int token) const {
        return {numbers + (int64_t)token * width, scales + (int64_t)token * scale_bytes<Number>(width), width};
    }

    // What one of the group at number `at` of the first token is worth.
    float worth(int at) const { return float_at(scales + at / SCALED * 4); }

    // The same of the first `count` tokens.
    Vec worths(int at, int count) const {
        const int apart = scale_bytes<Number>(width);
        if (apart == 4 && count == LANES) return load((const float*)scales);
        float some[LANES] = {};
        for (int t = 0; t < count; t++) some[t] = float_at(scales + t * apart + at / SCALED * 4);
        return load(some);
    }

    // Numbers [at, at + LANES) of the first token, or the `left` that are left; `at` is a multiple of LANES.
    template <bool WHOLE>
    Vec read(int at, int left) const {
        const Vec x = load_first<WHOLE>(numbers + at, left);
        if constexpr (IN_GROUPS<Number>) return x * worth(at);
        else return x;
    }

    // Asks for `count` numbers from `at` on, so that memory and arithmetic overlap.
    void ask(int at, int count) const {
        const char* stop = (const char*)(numbers + at + count);
        for (const char* p = (const char*)(numbers + at); p < stop; p += 64) _mm_prefetch(p, _MM_HINT_T0);
        if constexpr (IN_GROUPS<Number>) _mm_prefetch(scales, _MM_HINT_T0);
    }
};

// A part of the tokens of one sequence.
template <class Number>
struct Part {
    const Number* cache;  // of the layer
    const int64_t* pages;
    Layout layout;
    int index;

    // The column of a token, and those beside it.
    Lines<Number> column(int t) const {
        const Lines<Number> page = lines(t / layout.page_size);
        const int within = t % layout.page_size;
        return {page.numbers + within, page.from(within).scales, layout.width};
    }

    // work(lines from token `start` on, start, stop, those of the page after it or of nowhere): tokens [from, to) page by page.
    template <class Work>
    void each_page(int from, int to, const Work& work) const {
        const int size = layout.page_size;
        for (int start = from; start < to;) {
            const int page = start / size, stop = to < (page + 1) * size ? to : (page + 1) * size;
            const Lines<Number> next = stop < to ? lines(page + 1) : Lines<Number>{nullptr, nullptr, layout.width};
            work(lines(page).from(start - page * size), start, stop, next);
            start = stop;
        }
    }

  private:
    Lines<Number> lines(int page) const {
        const Number* first = cache + pages[page] * layout.page<Number>() + index * layout.part<Number>();
        return {first, (const char*)(first + (int64_t)layout.page_size * layout.width), layout.width};
    }
};

}  // namespace raison
