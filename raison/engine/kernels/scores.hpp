// Attention's inner loops: queries that read the same part of the cache score its keys, weigh them, and gather values.
//
// Sums run over tokens and numbers in order, whatever the pages and the queries beside: a row computes the same bits alone.
#pragma once

#include <algorithm>
#include <limits>

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

// Asks for numbers that come next, so that memory and arithmetic overlap.
template <class Number>
inline void ask(const Number* next, int count) {
    for (const char* p = (const char*)next; p < (const char*)(next + count); p += 64) _mm_prefetch(p, _MM_HINT_T0);
}

// Products of N queries with KEYS keys, over LANES numbers or the `left` that are left.
template <int N, bool WHOLE, class Number>
__attribute__((always_inline)) inline void add_products(const Number* const* key, const float* const* q, int w, int left,
                                                        Vec (&acc)[N][KEYS]) {
    Vec query[N];
    for (int h = 0; h < N; h++) query[h] = load_first<WHOLE>(q[h] + w, left);
    for (int j = 0; j < KEYS; j++) {
        const Vec k = load_first<WHOLE>(key[j] + w, left);
        for (int h = 0; h < N; h++) acc[h][j] += k * query[h];
    }
}

// Queries against KEYS keys in lines, `width` apart; where fewer are left, the last one again.
template <int N, class Number>
__attribute__((always_inline)) inline void score_keys(const Number* first, int width, int count, const Queries& of, int t) {
    const Number* key[KEYS];
    for (int j = 0; j < KEYS; j++) key[j] = first + (int64_t)(j < count ? j : count - 1) * width;
    Vec acc[N][KEYS];
#pragma GCC unroll 24
    for (int i = 0; i < N * KEYS; i++) acc[i / KEYS][i % KEYS] = Vec{};
    int w = 0;
    for (; w + LANES <= width; w += LANES) add_products<N, true>(key, of.q, w, LANES, acc);
    if (w < width) add_products<N, false>(key, of.q, w, width - w, acc);
#pragma GCC unroll 6
    for (int h = 0; h < N; h++) {
        float total[KEYS];
        sums_of_four(acc[h][0], acc[h][1], acc[h][2], acc[h][3], total);
        for (int j = 0; j < count; j++) of.scores[h][t + j] = total[j];
    }
}

// Scores of keys in lines.
template <int N, class Number>
void score_lines(const Part<Number>& keys, int from, int to, const Queries& of) {
    keys.each_page(from, to, [&](const Number* key, int start, int stop, const Number* next) {
        for (int t = start; t < stop; t += KEYS, key += KEYS * keys.width) {
            if (next) ask(next + (int64_t)(t - start) * keys.width, KEYS * keys.width);
            score_keys<N>(key, keys.width, stop - t < KEYS ? stop - t : KEYS, of, t);
        }
    });
}

// N queries against V vectors of keys in columns, a vector a column whose numbers are `step` apart.
template <int N, int V, class Number>
inline void score_vectors(const Number* const* key, const Number* const* next, int64_t step, int width, const Queries& of,
                          int t, int count) {
    Vec acc[N][V] = {};
    for (int d = 0; d < width; d++) {
        Vec k[V];
        for (int v = 0; v < V; v++) {
            k[v] = load(key[v] + d * step);
            if (next) _mm_prefetch((const char*)(next[v] + d * step), _MM_HINT_T0);
        }
        for (int h = 0; h < N; h++)
            for (int v = 0; v < V; v++) acc[h][v] += of.q[h][d] * k[v];
    }
    for (int h = 0; h < N; h++)
        for (int v = 0; v < V && v < count; v++) store(of.scores[h] + t + v * LANES, acc[h][v]);
}

// Scores of keys in columns, of whole vectors of tokens: those around [from, to) are computed too, or mean nothing.
template <int N, class Number>
void score_columns(const Part<Number>& keys, int from, int to, const Queries& of) {
    const int last = (to - 1) / LANES * LANES;
    const auto at = [&](int t, const Number** key) {
        for (int v = 0; v < SPAN; v++) key[v] = keys.column(std::min(t + v * LANES, last));
    };
    const Number *key[SPAN], *next[SPAN];
    for (int t = from / LANES * LANES; t < to; t += SPAN * LANES) {
        const int count = (last - t) / LANES + 1;
        const bool more = count > SPAN;
        at(t, key);
        if (more) at(t + SPAN * LANES, next);
        if (count == 1) score_vectors<N, 1, Number>(key, nullptr, keys.page_size, keys.width, of, t, 1);
        else score_vectors<N, SPAN>(key, more ? next : nullptr, keys.page_size, keys.width, of, t, count);
    }
}

// The same where a vector of tokens does not stand in one page.
template <int N, class Number>
void score_pieces(const Part<Number>& keys, int from, int to, const Queries& of) {
    std::vector<Number> lines(keys.width * LANES);
    const Number* key = lines.data();
    for (int t = from; t < to; t += LANES) {
        for (int j = 0; j < LANES; j++) {
            const Number* column = keys.column(std::min(t + j, to - 1));
            for (int d = 0; d < keys.width; d++) lines[d * LANES + j] = column[(int64_t)d * keys.page_size];
        }
        score_vectors<N, 1, Number>(&key, nullptr, LANES, keys.width, of, t, 1);
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

// V vectors of each value from number `at` on, or the `left` numbers that are left.
template <int N, int V, bool WHOLE, class Number>
inline void gather_span(const Part<Number>& values, int from, int to, const Queries& of, int at, int left) {
    Vec acc[N][V] = {};
    for (int h = 0; from && h < N; h++)
        for (int v = 0; v < V; v++) acc[h][v] = load_first<WHOLE>(of.out[h] + at + v * LANES, left);
    values.each_page(from, to, [&](const Number* line, int start, int stop, const Number* next) {
        for (int t = start; t < stop; t++, line += values.width) {
            if (next) ask(next + (int64_t)(t - start) * values.width + at, V * LANES);
            Vec value[V];
            for (int v = 0; v < V; v++) value[v] = load_first<WHOLE>(line + at + v * LANES, left);
            for (int h = 0; h < N; h++)
                for (int v = 0; v < V; v++) acc[h][v] += of.scores[h][t] * value[v];
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
