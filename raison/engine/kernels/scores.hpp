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

// Products of N heads' queries with KEYS keys, over LANES numbers or the `left` that are left; RAW leaves what the numbers
// of a group are worth to the sum.
template <int N, bool WHOLE, bool RAW, class Number>
__attribute__((always_inline)) inline void add_products(const Lines<Number>* key, const float* q, int64_t q_head, int w,
                                                        int left, Vec (&acc)[N][KEYS]) {
    Vec query[N];
    for (int h = 0; h < N; h++) query[h] = load_first<WHOLE>(q + h * q_head + w, left);
    for (int j = 0; j < KEYS; j++) {
        const Vec k = RAW ? load_first<WHOLE>(key[j].numbers + w, left) : key[j].template read<WHOLE>(w, left);
        for (int h = 0; h < N; h++) acc[h][j] += k * query[h];
    }
}

// Queries of N heads against KEYS keys, where fewer are left the last one again. RAW: a key is one group.
template <int N, bool RAW, class Number>
__attribute__((always_inline)) inline void score_keys(const Lines<Number>& keys, int count, const float* q, int64_t q_head,
                                                      float* scores, int64_t stride) {
    const int width = keys.width;
    Lines<Number> key[KEYS];
    for (int j = 0; j < KEYS; j++) key[j] = keys.from(j < count ? j : count - 1);
    Vec acc[N][KEYS];
#pragma GCC unroll 16
    for (int i = 0; i < N * KEYS; i++) acc[i / KEYS][i % KEYS] = Vec{};
    int w = 0;
    for (; w + LANES <= width; w += LANES) add_products<N, true, RAW>(key, q, q_head, w, LANES, acc);
    if (w < width) add_products<N, false, RAW>(key, q, q_head, w, width - w, acc);
#pragma GCC unroll 4
    for (int h = 0; h < N; h++) {
        float total[KEYS];
        sums_of_four(acc[h][0], acc[h][1], acc[h][2], acc[h][3], total);
        for (int j = 0; RAW && j < KEYS; j++) total[j] *= key[j].worth(0);
        std::memcpy(scores + h * stride, total, count * 4);
    }
}

template <int N, class Number>
void score(const Part<Number>& keys, int from, int to, const float* q, int64_t q_head, float* scores, int64_t stride) {
    keys.each_page(from, to, [&](const Lines<Number>& page, int start, int stop, const Lines<Number>& next) {
        for (int t = start; t < stop; t += KEYS) {
            if (next.numbers) next.from(t - start).ask(0, KEYS * page.width);
            const int count = stop - t < KEYS ? stop - t : KEYS;
            if (IN_GROUPS<Number> && page.width <= SCALED)
                score_keys<N, IN_GROUPS<Number>>(page.from(t - start), count, q, q_head, scores + t, stride);
            else
                score_keys<N, false>(page.from(t - start), count, q, q_head, scores + t, stride);
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

// Weights of up to LANES tokens for N heads, with what one of the values' group is worth where numbers come in groups.
template <int N, class Number>
class Weights {
  public:
    Weights(const Lines<Number>& values, int at, int count, const float* first, int64_t stride)
        : first_(first), stride_(stride) {
        if constexpr (IN_GROUPS<Number>) {
            const Vec worth = values.worths(at, count);
            for (int h = 0; h < N; h++) {
                const float* from = first + h * stride;
                store(own_[h], worth * (count < LANES ? load_first<false>(from, count) : load(from)));
            }
        }
    }

    float operator()(int head, int token) const {
        return IN_GROUPS<Number> ? own_[head][token] : first_[head * stride_ + token];
    }

  private:
    const float* first_;
    int64_t stride_;
    float own_[IN_GROUPS<Number> ? N : 1][LANES];
};

// V vectors of each value from number `at` on, which are of one group, or the `left` numbers that are left.
template <int N, int V, bool WHOLE, class Number>
inline void gather_span(const Part<Number>& values, int from, int to, const float* weights, int64_t stride, int at,
                        int left, float* out, int64_t out_head) {
    Vec acc[N][V] = {};
    for (int h = 0; from && h < N; h++)
        for (int v = 0; v < V; v++) acc[h][v] = load_first<WHOLE>(out + h * out_head + at + v * LANES, left);
    values.each_page(from, to, [&](const Lines<Number>& page, int start, int stop, const Lines<Number>& next) {
        for (int first = start; first < stop; first += LANES) {
            const int count = stop - first < LANES ? stop - first : LANES;
            const Weights<N, Number> weight(page.from(first - start), at, count, weights + first, stride);
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
