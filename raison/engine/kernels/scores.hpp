// Attention's inner loops: N heads that read the same part of the cache score its keys, weigh them, and gather values.
//
// Sums run over tokens and numbers in order, whatever the pages and the rows beside: a row computes the same bits alone.
#pragma once

#include <limits>

#include "cache.hpp"

namespace raison {

constexpr int HEADS = 4;  // heads that read a key together
constexpr int SPAN = 4;   // vectors of a value that are summed together
constexpr int KEYS = 4;   // keys that are scored together

// Products of N heads' queries with KEYS keys, over LANES numbers or the `left` that are left.
template <int N, bool WHOLE, class Number>
__attribute__((always_inline)) inline void add_products(const Lines<Number>* key, const float* q, int64_t q_head, int w,
                                                        int left, Vec (&acc)[N][KEYS]) {
    Vec query[N];
    for (int h = 0; h < N; h++) query[h] = load_first<WHOLE>(q + h * q_head + w, left);
    for (int j = 0; j < KEYS; j++) {
        const Vec k = key[j].template read<WHOLE>(w, left);
        for (int h = 0; h < N; h++) acc[h][j] += k * query[h];
    }
}

// Queries of N heads against KEYS keys; where fewer are left, the last one again.
template <int N, class Number>
__attribute__((always_inline)) inline void score_keys(const Lines<Number>& keys, int count, const float* q, int64_t q_head,
                                                      float* scores, int64_t stride) {
    const int width = keys.width;
    Lines<Number> key[KEYS];
    for (int j = 0; j < KEYS; j++) key[j] = keys.from(j < count ? j : count - 1);
    Vec acc[N][KEYS];
#pragma GCC unroll 16
    for (int i = 0; i < N * KEYS; i++) acc[i / KEYS][i % KEYS] = Vec{};
    int w = 0;
    for (; w + LANES <= width; w += LANES) add_products<N, true>(key, q, q_head, w, LANES, acc);
    if (w < width) add_products<N, false>(key, q, q_head, w, width - w, acc);
#pragma GCC unroll 4
    for (int h = 0; h < N; h++) {
        float total[KEYS];
        sums_of_four(acc[h][0], acc[h][1], acc[h][2], acc[h][3], total);
        std::memcpy(scores + h * stride, total, count * 4);
    }
}

template <int N, class Number>
void score(const Part<Number>& keys, int from, int to, const float* q, int64_t q_head, float* scores, int64_t stride) {
    keys.each_page(from, to, [&](const Lines<Number>& page, int start, int stop, const Lines<Number>& next) {
        for (int t = start; t < stop; t += KEYS) {
            if (next.numbers) next.from(t - start).ask(0, KEYS * page.width);
            score_keys<N>(page.from(t - start), stop - t < KEYS ? stop - t : KEYS, q, q_head, scores + t, stride);
        }
    });
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
inline void gather_span(const Part<Number>& values, int from, int to, const float* weights, int64_t stride, int at,
                        int left, float* out, int64_t out_head) {
    Vec acc[N][V] = {};
    for (int h = 0; from && h < N; h++)
        for (int v = 0; v < V; v++) acc[h][v] = load_first<WHOLE>(out + h * out_head + at + v * LANES, left);
    values.each_page(from, to, [&](const Lines<Number>& page, int start, int stop, const Lines<Number>& next) {
        for (int t = start; t < stop; t++) {
            if (next.numbers) next.from(t - start).ask(at, V * LANES);
            const Lines<Number> line = page.from(t - start);
            Vec value[V];
            for (int v = 0; v < V; v++) value[v] = line.template read<WHOLE>(at + v * LANES, left);
            for (int h = 0; h < N; h++)
                for (int v = 0; v < V; v++) acc[h][v] += weights[h * stride + t] * value[v];
        }
    });
    for (int h = 0; h < N; h++)
        for (int v = 0; v < V; v++)
            std::memcpy(out + h * out_head + at + v * LANES, &acc[h][v], WHOLE ? sizeof(Vec) : left * 4);
}

// Adds the weighted values of tokens [from, to), `count` numbers of each, to what those before came to.
template <int N, class Number>
void gather(const Part<Number>& values, int count, int from, int to, const float* weights, int64_t stride, float* out,
            int64_t out_head) {
    int c = 0;
    for (; c + SPAN * LANES <= count; c += SPAN * LANES)
        gather_span<N, SPAN, true>(values, from, to, weights, stride, c, LANES, out, out_head);
    for (; c + LANES <= count; c += LANES)
        gather_span<N, 1, true>(values, from, to, weights, stride, c, LANES, out, out_head);
    if (c < count) gather_span<N, 1, false>(values, from, to, weights, stride, c, count - c, out, out_head);
}

}  // namespace raison
