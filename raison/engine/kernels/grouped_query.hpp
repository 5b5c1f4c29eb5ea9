// Grouped-query attention: queries, keys and values of a row, and what its heads see of the cache.
#pragma once

#include "attention.hpp"

namespace raison {

// Numbers STEP p and STEP p + other of each pair p, turned by the angle at p; in place or not.
template <int STEP>
inline void turn(const float* x, int other, const float* cosines, const float* sines, int pairs, float scale, float* out) {
#pragma GCC ivdep
    for (int p = 0; p < pairs; p++) {
        const float a = x[STEP * p] * scale, b = x[STEP * p + other] * scale;
        out[STEP * p] = a * cosines[p] - b * sines[p];
        out[STEP * p + other] = a * sines[p] + b * cosines[p];
    }
}

// A head turned by its place: pairs are neighbours, or a number and the one half a head on.
inline void rotate(const float* x, const Shape& s, int64_t place, int pairs, float scale, bool neighbours, float* out) {
    const float *cosines = s.cosines + place * pairs, *sines = s.sines + place * pairs;
    if (neighbours) turn<2>(x, 1, cosines, sines, pairs, scale, out);
    else turn<1>(x, pairs, cosines, sines, pairs, scale, out);
}

class GroupedQuery {
  public:
    GroupedQuery(Tile& tile, Attention& attention) : tile_(tile), attention_(attention) {}

    static Layout layout(const Shape& s, int page_size) { return {page_size, 2 * s.key_heads, s.head}; }

    void prepare(const Model& model) {
        first_out_.fit(TILE, model.queries() + model.width());
        queries_.fit(TILE, model.queries());
    }

    // Values of all heads, into `values`.
    template <class Number>
    void run(const Layer& l, Number* cache, Rows& values) {
        const Shape& s = tile_.model->s;
        tile_.project(l.in, tile_.normed, Store{first_out_.row(0), first_out_.stride()});
        tile_.each_row([&](int i) { place_heads(l, cache, i); });
        const int shared = s.heads / s.key_heads, parts = (shared + HEADS - 1) / HEADS;
        attention_.each_head(s.key_heads * parts, [&](Member& me, const RowGroup& group, int item) {
            const int g = item / parts, h = g * shared + item % parts * HEADS;
            const Heads heads{queries_.row(0) + h * s.head, queries_.stride(), s.head,
                              values.row(0) + h * s.head, values.stride(), s.head};
            attention_.attend(me, cache, group, std::min(HEADS, (g + 1) * shared - h),
                              {g, s.key_heads + g, s.head, true}, heads);
        });
    }

  private:
    // Biases, norms and rotation of a row's heads: queries, scaled for the softmax, and its line of the cache.
    template <class Number>
    void place_heads(const Layer& l, Number* cache, int i) {
        const Shape& s = tile_.model->s;
        const int64_t place = tile_.place(i);
        float* row = first_out_.row(i);
        float* keys = row + s.heads * s.head;
        float* values = keys + s.key_heads * s.head;
        if (s.qkv_bias) {
            for (int k = 0; k < s.heads * s.head; k++) row[k] += l.q_bias[k];
            for (int k = 0; k < s.key_heads * s.head; k++) keys[k] += l.k_bias[k], values[k] += l.v_bias[k];
        }
        for (int h = 0; s.qk_norm && h < s.heads + s.key_heads; h++)
            normalise(row + h * s.head, h < s.heads ? l.q_norm : l.kv_norm, s.head, s.epsilon, row + h * s.head);
        for (int h = 0; h < s.heads; h++)
            rotate(row + h * s.head, s, place, s.head / 2, s.softmax_scale, s.neighbours, queries_.row(i) + h * s.head);
        for (int g = 0; g < s.key_heads; g++) {
            rotate(keys + g * s.head, s, place, s.head / 2, 1.0f, s.neighbours, keys + g * s.head);
            keep_column(keys + g * s.head, s.head, tile_.step->page_size, attention_.own(cache, i, g, true));
            keep(values + g * s.head, s.head, attention_.own(cache, i, s.key_heads + g));
        }
    }

    Tile& tile_;
    Attention& attention_;
    Rows first_out_, queries_;
};

}  // namespace raison
