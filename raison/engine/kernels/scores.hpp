// Attention's inner loops: queries that read the same part of the cache score its keys, weigh them, and gather values.
//
// Sums run over tokens and numbers in order, whatever the pages and the queries beside: a row computes the same bits alone.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "cache.hpp"

namespace raison {

constexpr int HEADS = 4;    // heads that read a key together
constexpr int QUERIES = 6;  // queries that read keys and values together, of some rows and all of their heads
constexpr int KEYS = 4;     // keys in lines that are scored together
constexpr int SPAN = LANES / 4;  // vectors of keys in columns, or of a value, that are summed together

// Where each query stands, its scores by token, and what it gathers.
struct Queries {
    const float* q[QUERIES];
    float* scores[QUERIES];
    float* out[QUERIES];
    int count = 0;
};

// Products of N queries with KEYS keys, over LANES numbers or the `left` that are left; RAW leaves what the numbers of a group
// are worth to the sum.
template <int N, bool WHOLE, bool RAW, class Number>
__attribute__((always_inline)) inline void add_products(const Lines<Number>* key, const float* const* q, int w, int left,
                                                        Vec (&acc)[N][KEYS]) {
    Vec query[N];
    for (int h = 0; h < N; h++) query[h] = load_first<WHOLE>(q[h] + w, left);
    for (int j = 0; j < KEYS; j++) {
        const Vec k = RAW ? load_first<WHOLE>(key[j].numbers + w, left) : key[j].template read<WHOLE>(w, left);
        for (int h = 0; h < N; h++) acc[h][j] += k * query[h];
    }
}

// Queries against KEYS keys in lines, where fewer are left the last one again. RAW: a key is one group.
template <int N, bool RAW, class Number>
__attribute__((always_inline)) inline void score_keys(const Lines<Number>& keys, int count, const Queries& of, int t) {
    const int width = keys.width;
    Lines<Number> key[KEYS];
    for (int j = 0; j < KEYS; j++) key[j] = keys.from(j < count ? j : count - 1);
    Vec acc[N][KEYS];
#pragma GCC unroll 24
    for (int i = 0; i < N * KEYS; i++) acc[i / KEYS][i % KEYS] = Vec{};
    int w = 0;
    for (; w + LANES <= width; w += LANES) add_products<N, true, RAW>(key, of.q, w, LANES, acc);
    if (w < width) add_products<N, false, RAW>(key, of.q, w, width - w, acc);
#pragma GCC unroll 6
    for (int h = 0; h < N; h++) {
        float total[KEYS];
        sums_of_four(acc[h][0], acc[h][1], acc[h][2], acc[h][3], total);
        for (int j = 0; RAW && j < KEYS; j++) total[j] *= key[j].worth(0);
        for (int j = 0; j < count; j++) of.scores[h][t + j] = total[j];
    }
}

// Scores of keys in lines.
template <int N, class Number>
void score_lines(const Part<Number>& keys, int from, int to, const Queries& of) {
    keys.each_page(from, to, [&](const Lines<Number>& page, int start, int stop, const Lines<Number>& next) {
        for (int t = start; t < stop; t += KEYS) {
            if (next.numbers) next.from(t - start).ask(0, KEYS * page.width);
            const int count = stop - t < KEYS ? stop - t : KEYS;
            if (IN_GROUPS<Number> && page.width <= SCALED)
                score_keys<N, IN_GROUPS<Number>>(page.from(t - start), count, of, t);
            else score_keys<N, false>(page.from(t - start), count, of, t);
        }
    });
}

// N queries against V vectors of keys in columns, whose numbers are `step` apart; numbers of a group meet what they are worth
// when they are summed.
template <int N, int V, class Number>
inline void score_vectors(const Lines<Number>* key, const Lines<Number>* next, int64_t step, const Queries& of, int t,
                          int count) {
    const int width = key[0].width, group = IN_GROUPS<Number> ? SCALED : width;
    for (int first = 0; first < width; first += group) {
        const int stop = std::min(width, first + group);
        Vec acc[N][V] = {};
        for (int d = first; d < stop; d++) {
            Vec k[V];
            for (int v = 0; v < V; v++) {
                k[v] = load(key[v].numbers + d * step);
                if (next) _mm_prefetch((const char*)(next[v].numbers + d * step), _MM_HINT_T0);
            }
            for (int h = 0; h < N; h++)
                for (int v = 0; v < V; v++) acc[h][v] += of.q[h][d] * k[v];
        }
        for (int v = 0; v < V && v < count; v++) {
            const Vec worth = IN_GROUPS<Number> ? key[v].worths(first, LANES) : Vec{};
            for (int h = 0; h < N; h++) {
                float* to = of.scores[h] + t + v * LANES;
                if constexpr (IN_GROUPS<Number>) acc[h][v] = fused(acc[h][v], worth, first ? load(to) : Vec{});
                store(to, acc[h][v]);
            }
        }
    }
}

// Scores of keys in columns, of whole vectors of tokens: those around [from, to) are computed too, or mean nothing.
template <int N, class Number>
void score_columns(const Part<Number>& keys, int from, int to, const Queries& of) {
    const int last = (to - 1) / LANES * LANES;
    const auto at = [&](int t, Lines<Number>* key) {
        for (int v = 0; v < SPAN; v++) key[v] = keys.column(std::min(t + v * LANES, last));
    };
    Lines<Number> key[SPAN], next[SPAN];
    for (int t = from / LANES * LANES; t < to; t += SPAN * LANES) {
        const int count = (last - t) / LANES + 1, step = keys.layout.page_size;
        const bool more = count > SPAN;
        at(t, key);
        if (more) at(t + SPAN * LANES, next);
        if (count == 1) score_vectors<N, 1, Number>(key, nullptr, step, of, t, 1);
        else score_vectors<N, SPAN, Number>(key, more ? next : nullptr, step, of, t, count);
    }
}

// The same where a vector of tokens does not stand in one page, slowly.
template <class Number>
void score_pieces(const Part<Number>& keys, int from, int to, const Queries& of) {
    const int width = keys.layout.width, apart = scale_bytes<Number>(width);
    std::vector<Number> numbers(width * LANES);
    std::vector<char> scales(LANES * apart);
    const Lines<Number> key{numbers.data(), scales.data(), width};
    for (int t = from; t < to; t += LANES) {
        for (int j = 0; j < LANES; j++) {
            const Lines<Number> column = keys.column(std::min(t + j, to - 1));
            for (int d = 0; d < width; d++) numbers[d * LANES + j] = column.numbers[(int64_t)d * keys.layout.page_size];
            std::copy_n(column.scales, apart, scales.data() + j * apart);
        }
        for (int h = 0; h < of.count; h++)
            score_vectors<1, 1, Number>(&key, nullptr, LANES, Queries{{of.q[h]}, {of.scores[h]}, {}, 1}, t, 1);
    }
}

inline void softmax(float* x, int n) {
    const int end = padded(n);
    for (int t = n; t < end; t++) x[t] = -std::numeric_limits<float>::infinity();
    Vec most = load(x), total{};
    for (int t = LANES; t < end; t += LANES) most = larger(most, load(x + t));
    const float top = largest(most);
    for (int t = 0; t < end; t += LANES) {
        const Vec e = exponential(load(x + t) - top);
        total += e;
        store(x + t, e);
    }
    const float inverse = 1.0f / sum(total);
    for (int t = 0; t < end; t += LANES) store(x + t, load(x + t) * inverse);
}

// Weights of up to LANES tokens from `token` on, for which there is room, with what one of the values' group is worth where
// numbers come in groups.
template <int N, class Number>
class Weights {
  public:
    Weights(const Lines<Number>& values, int at, int count, const Queries& of, int token) : of_(of), token_(token) {
        if constexpr (IN_GROUPS<Number>) {
            const Vec worth = values.worths(at, count);
            for (int h = 0; h < N; h++) store(own_[h], worth * load(of.scores[h] + token));
        }
    }

    float operator()(int head, int t) const {
        return IN_GROUPS<Number> ? own_[head][t] : of_.scores[head][token_ + t];
    }

  private:
    const Queries& of_;
    int token_;
    float own_[IN_GROUPS<Number> ? N : 1][LANES];
};

// V vectors of each value from number `at` on, which are of one group, or the `left` numbers that are left.
template <int N, int V, bool WHOLE, class Number>
inline void gather_span(const Part<Number>& values, int from, int to, const Queries& of, int at, int left) {
    Vec acc[N][V] = {};
    for (int h = 0; from && h < N; h++)
        for (int v = 0; v < V; v++) acc[h][v] = load_first<WHOLE>(of.out[h] + at + v * LANES, left);
    values.each_page(from, to, [&](const Lines<Number>& page, int start, int stop, const Lines<Number>& next) {
        for (int first = start; first < stop; first += LANES) {
            const int count = stop - first < LANES ? stop - first : LANES;
            const Weights<N, Number> weight(page.from(first - start), at, count, of, first);
            for (int t = 0; t < count; t++) {
                if (next.numbers) next.from(first - start + t).ask(at, V * LANES);
                const Number* line = page.numbers + (int64_t)(first - start + t) * page.width + at;
                Vec value[V];
                for (int v = 0; v < V; v++) value[v] = load_first<WHOLE>(line + v * LANES, left);
                for (int h = 0; h < N; h++)
                    for (int v = 0; v < V; v++) acc[h][v] += weight(h, t) * value[v];
            }
        }
    });
    for (int h = 0; h < N; h++)
        for (int v = 0; v < V; v++)
            std::memcpy(of.out[h] + at + v * LANES, &acc[h][v], WHOLE ? sizeof(Vec) : left * 4);
}

// Adds the weighted values of tokens [from, to), `count` numbers of each, to what those before came to.
template <int N, class Number>
void gather(const Part<Number>& values, int count, int from, int to, const Queries& of) {
    int c = 0;
    for (; c + SPAN * LANES <= count; c += SPAN * LANES)
        gather_span<N, SPAN, true>(values, from, to, of, c, LANES);
    for (; c + LANES <= count; c += LANES) gather_span<N, 1, true>(values, from, to, of, c, LANES);
    if (c < count) gather_span<N, 1, false>(values, from, to, of, c, count - c);
}

}  // namespace raison
